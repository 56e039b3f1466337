"""Prefect's ephemeral server on a free port. Run by ``embedded``, as a child, not by hand."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket

from configs import environment


def serve() -> None:
    """Takes a free port on 127.0.0.1, prints it, and serves."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    if not (environment.prefect_home() / "prefect.db").exists():
        _make_tables()

    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


def _make_tables() -> None:
    """Makes them in a second process while this one imports the server: each takes seconds."""
    from prefect.server.database import provide_database_interface

    upgrade = provide_database_interface().run_migrations_upgrade
    makes = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(upgrade()))
    makes.start()
    import prefect.server.api.server  # noqa: F401

    makes.join()


if __name__ == "__main__":
    serve()
