"""Prefect without a server to look after: its ephemeral API, started early and stopped quietly.

Prefect starts one itself where ``PREFECT_API_URL`` is not set, but only once a flow is called, and records task runs
one at a time. Here it starts while TensorFlow is imported, and records them in batches.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from uuid import UUID

from filelock import BaseFileLock

from configs import environment
from federated.errors import TrainingError
from roundhouse import child

_STARTUP_SECONDS = 120
_SETTLE_SECONDS = 20
_POLL_SECONDS = 0.2
_FLUSH_SECONDS = 1  # whole seconds: Prefect takes a fraction for 0, and its server spins
_FINAL_STATES = ["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]

# One database write for many task runs: a sixth of the server's work.
BATCHED_RECORDING = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": str(_FLUSH_SECONDS),
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
}

_EPHEMERAL = {
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


class EmbeddedPrefect:
    """A Prefect API of this process' own, on its own SQLite file."""

    def __init__(self, process: subprocess.Popen[str], url: str, starting: BaseFileLock) -> None:
        self._process, self.url, self._starting = process, url, starting

    def wait_until_ready(self) -> None:
        """Blocks until it answers.

        Raises:
            TrainingError: it ended, or took too long.
        """
        import httpx

        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    self._starting.release()
                    return
            time.sleep(0.05)
        raise TrainingError(
            f"the embedded Prefect server did not start; see {environment.log_file()}, "
            "or start a server and set PREFECT_API_URL"
        )

    def settle(self, flow_run_id: UUID | None) -> None:
        """Waits until what the flow run's tasks reported is recorded, which lags behind its arrival.

        It never raises: a record that is late is no reason to fail a training.
        """
        deadline, recorded, quiet_since = time.monotonic() + _SETTLE_SECONDS, -1, time.monotonic()
        while flow_run_id is not None and time.monotonic() < deadline:
            everything, final = self._count(flow_run_id, {}), self._count(flow_run_id, {"any_": _FINAL_STATES})
            if not everything == final == recorded:
                recorded, quiet_since = final, time.monotonic()
            elif time.monotonic() - quiet_since > 1.2 * _FLUSH_SECONDS:
                return
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ends the server and waits for it."""
        child.stop(self._process)
        self._starting.release()

    def _count(self, flow_run_id: UUID, state_types: dict[str, list[str]]) -> int:
        """Task runs of the flow run; -2 where the server does not say."""
        import httpx

        tasks = {"task_runs": {"state": {"type": state_types}}} if state_types else {}
        body = {"flow_runs": {"id": {"any_": [str(flow_run_id)]}}, **tasks}
        with contextlib.suppress(httpx.HTTPError, ValueError):
            answer = httpx.post(f"{self.url}/task_runs/count", json=body, timeout=5)
            return int(answer.raise_for_status().json())
        return -2


def deliver_reports() -> None:
    """Waits until what the tasks of this process reported has arrived: it lags behind running.

    A server that is away is not waited for longer than some seconds; Prefect would, for seconds a report.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_SETTLE_SECONDS)


@contextlib.contextmanager
def embedded_prefect() -> Iterator[EmbeddedPrefect | None]:
    """Starts one and points Prefect at it; None, and nothing started, where ``PREFECT_API_URL`` is set.

    Prefect must not have been imported before.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    server = _start()
    mine = ("PREFECT_API_URL", environment.OWN_PREFECT)
    os.environ.update(dict.fromkeys(mine, server.url))
    try:
        yield server
    finally:
        server.stop()
        for name in mine:
            del os.environ[name]


def _start() -> EmbeddedPrefect:
    folder = environment.prefect_home()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    starting = environment.lock("prefect")  # one server at a time makes or changes the tables
    starting.acquire()
    process = child.start("roundhouse.prefect_server", env=_EPHEMERAL | BATCHED_RECORDING)
    port = process.stdout.readline().strip() if process.stdout else ""
    return EmbeddedPrefect(process, f"http://127.0.0.1:{port}/api", starting)
