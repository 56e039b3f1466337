"""A child process that ends when its parent does, however the parent ends.

``python -m roundhouse.child MODULE ARGS…`` runs a module as ``python -m`` would, until standard input closes.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO

_STOP_SECONDS = 10


def end_with_parent() -> None:
    """Ends this process and its children when standard input closes, as it does when the parent dies."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def start(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    stdout: int | IO[str] = subprocess.PIPE,
    stderr: int | IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Runs ``module`` as a child in a session of its own: Ctrl-C in the terminal does not reach it."""
    return subprocess.Popen(
        [sys.executable, "-m", "roundhouse.child", module, *arguments],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    """Asks the child and its children to end, and after ten seconds makes them."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _wait_for_the_end() -> None:
    sys.stdin.buffer.raw.read()  # type: ignore[attr-defined] - unbuffered: a buffer's lock would outlive the main thread
    os.killpg(os.getpgrp(), signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
