"""Prefect's ephemeral server on a free port. Run by ``embedded``, as a child, not by hand."""

from __future__ import annotations

import socket


def serve() -> None:
    """Takes a free port on 127.0.0.1, prints it, and serves."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    import uvicorn

    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    serve()
