"""Prefect's ephemeral server as a child process that ends with its parent. Run by ``embedded``, not by hand."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading


def serve() -> None:
    """Takes a free port on 127.0.0.1, prints it, and serves until standard input closes."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    import uvicorn

    config = uvicorn.Config(
        "prefect.server.api.server:create_app", factory=True, log_level="error", lifespan="on"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve()
