"""Everything at once on one machine: Prefect's server, MLflow's, the deployments and a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from configs import environment
from federated.errors import InputError, TrainingError
from roundhouse import child, worker_folder
from roundhouse.embedded import BATCHED_RECORDING
from roundhouse.typed import typed
from tasks import embedded_mlflow

_POOL = "roundhouse"
_STARTUP_SECONDS = 180


class Services:
    """The processes that are up, and what each writes."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env, self._processes = env, dict[str, subprocess.Popen[str]]()

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Runs ``module``; its output goes to a file named after it."""
        with self.log(name).open("w", encoding="utf-8") as log:
            self._processes[name] = child.start(module, *arguments, env=self.env, stdout=log, stderr=subprocess.STDOUT)

    def run(self, name: str, *arguments: str) -> None:
        """Runs a Prefect command to its end.

        Raises:
            TrainingError: it failed.
        """
        with self.log(name).open("w", encoding="utf-8") as log:
            process = child.start("prefect", *arguments, env=self.env, stdout=log, stderr=subprocess.STDOUT)
            if process.wait() != 0:
                raise TrainingError(f"{name} failed; see {self.log(name)}")
            child.stop(process)

    def log(self, name: str) -> Path:
        """Where ``name`` writes."""
        folder = environment.home() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def wait_for(self, name: str, url: str) -> None:
        """Blocks until ``url`` answers.

        Raises:
            TrainingError: the process ended, or took too long.
        """
        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(url, timeout=5).close()
                return
            time.sleep(0.2)
        raise TrainingError(f"{name} did not start; see {self.log(name)}")

    def check(self) -> None:
        """
        Raises:
            TrainingError: a process has ended.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise TrainingError(f"{name} ended with code {process.returncode}; see {self.log(name)}")

    def stop(self) -> None:
        """Ends them, the last started first."""
        for process in reversed(self._processes.values()):
            child.stop(process)


def run_services(prefect_port: int, mlflow_port: int, console: Console) -> NoReturn:
    """Starts everything and keeps it up until Ctrl-C.

    Raises:
        InputError: a port is in use, or there is no prefect.yaml here.
        TrainingError: something did not start, or ended.
        KeyboardInterrupt: Ctrl-C, or a request to terminate; everything has been stopped.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started it in the background, deaf to SIGINT
        signal.signal(number, signal.default_int_handler)
    _require_free(prefect_port, "--prefect-port")
    _require_free(mlflow_port, "--mlflow-port")
    if not Path("prefect.yaml").is_file():
        raise InputError("there is no prefect.yaml here; run it in the folder that has one")
    prefect_url = f"http://127.0.0.1:{prefect_port}"
    mlflow_url = f"http://127.0.0.1:{mlflow_port}"
    with _stopping(Services(_environment(prefect_url, mlflow_url))) as services:
        console.print("starting (half a minute the first time)")
        _start_all(services, prefect_port, mlflow_port, prefect_url, mlflow_url)
        console.print(_page(prefect_url, mlflow_url, services), highlight=False, soft_wrap=True)
        while True:
            services.check()
            time.sleep(1)


def _start_all(services: Services, prefect_port: int, mlflow_port: int, prefect_url: str, mlflow_url: str) -> None:
    here = ("--host", "127.0.0.1", "--port")
    services.start("prefect-server", "prefect", "server", "start", *here, str(prefect_port))
    with environment.lock("mlflow"):
        embedded_mlflow.prepare()
    services.start(
        "mlflow-server", "mlflow", "server", *here, str(mlflow_port), "--workers", "1",
        "--backend-store-uri", environment.embedded_tracking_uri(),
        # The same place as without servers, so that trainings with and without them mix.
        "--no-serve-artifacts", "--default-artifact-root", (environment.home() / "artifacts").as_uri(),
    )  # fmt: skip
    services.wait_for("prefect-server", f"{prefect_url}/api/health")
    services.run("work-pool", "work-pool", "create", _POOL, "--type", "process", "--overwrite")
    services.run("deploy", "--no-prompt", "deploy", "--all")
    services.start("worker", "prefect", "worker", "start", "--pool", _POOL, "--type", "process")
    services.wait_for("mlflow-server", f"{mlflow_url}/health")


def _environment(prefect_url: str, mlflow_url: str) -> dict[str, str]:
    home = environment.home()
    environment.prefect_home().mkdir(parents=True, exist_ok=True)
    return BATCHED_RECORDING | {
        "ROUNDHOUSE_HOME": str(home),
        worker_folder.VARIABLE: str(Path.cwd()),
        "PREFECT_HOME": str(environment.prefect_home()),
        "PREFECT_API_URL": f"{prefect_url}/api",
        # In memory, the default, a restart of the server ends every training that holds its plan's place.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "MLFLOW_TRACKING_URI": mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }


def _page(prefect_url: str, mlflow_url: str, services: Services) -> str:
    return f"""
Prefect UI   {prefect_url}   runs, deployments, schedules
MLflow UI    {mlflow_url}   metrics, figures, every model version
worker       pool {_POOL}, one run of a plan at a time
logs         {services.log("worker").parent}

train now:   export PREFECT_API_URL={prefect_url}/api MLFLOW_TRACKING_URI={mlflow_url}
             {typed("prefect")} deployment run train/on-demand --param plan=breast-cancer
             {typed("roundhouse")} train quickstart

Ctrl-C stops all of it."""


@contextlib.contextmanager
def _stopping(services: Services) -> Iterator[Services]:
    try:
        yield services
    finally:
        services.stop()


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"port {port} is in use; stop what uses it, or choose another with {option}") from error
