"""Prefect's server and MLflow's on 127.0.0.1, which die without a word and come back with what is on disk."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from roundhouse import child

_STARTUP_SECONDS = 120
# With leases in memory, the default, a restart of the server ends every training that holds one, and the place of a
# training that died is never free again.
_LEASES_THAT_LAST = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem"}


class Server:
    """A server with its database in ``home``."""

    def __init__(self, home: Path, name: str, url: str, arguments: tuple[str, ...], env: dict[str, str]) -> None:
        self.name, self.url, self._arguments, self._env = name, url, arguments, env
        self._log = home / f"{arguments[0]}.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns at once."""
        with self._log.open("a") as log:
            self._process = child.start(*self._arguments, env=self._env, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """SIGKILL, to all of its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
                return
            time.sleep(0.1)
        sys.exit(f"{self.name} did not start: {self._log}")


class Servers(NamedTuple):
    """Both."""

    prefect: Server
    mlflow: Server

    @property
    def env(self) -> dict[str, str]:
        """What a training against them needs."""
        return {"PREFECT_API_URL": self.prefect.url, "MLFLOW_TRACKING_URI": self.mlflow.url}


@contextlib.contextmanager
def servers(home: Path) -> Iterator[Servers]:
    """Both, up, on the databases of a warm home."""
    prefect_port, mlflow_port = _free_ports()
    prefect = Server(
        home, "Prefect's server", f"http://127.0.0.1:{prefect_port}/api",
        ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect_port)),
        {"PREFECT_HOME": str(home / "prefect"), "PREFECT_SERVER_UI_ENABLED": "false", **_LEASES_THAT_LAST},
    )  # fmt: skip
    mlflow = Server(
        home, "MLflow's server", f"http://127.0.0.1:{mlflow_port}",
        ("mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1",
         "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}", "--artifacts-destination", str(home / "artifacts")),
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )  # fmt: skip
    both = Servers(prefect, mlflow)
    try:
        for server in both:
            server.start()
        for server in both:
            server.wait()
        yield both
    finally:
        for server in both:
            server.kill()


class Outage:
    """A server dies once ``text`` is printed, and is started again ``seconds`` later."""

    def __init__(self, server: Server, text: str, seconds: float) -> None:
        self._server, self._text, self._seconds = server, text, seconds
        self._died: float | None = None
        self.is_over = False

    def __call__(self, printed: str) -> None:
        """To call often."""
        if self._died is None and self._text in printed:
            self._server.kill()
            self._died = time.monotonic()
        if self._died is not None and not self.is_over and time.monotonic() - self._died >= self._seconds:
            self._server.start()
            self.is_over = True


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(2)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
