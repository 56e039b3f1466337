"""``roundhouse up``: real servers, real deployments, a real worker."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.roundhouse.commands import Running, environment, roundhouse, wait_until

SMALL = 'overrides=["rounds=2", "baselines=false"]'


class Up(NamedTuple):
    """Services that run, and how to talk to them."""

    running: Running
    home: Path
    servers: dict[str, str]

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a Prefect command against the server."""
        return subprocess.run(
            [sys.executable, "-m", "prefect", *arguments],
            env=environment(self.home, self.servers),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        """Asks Prefect's API."""
        request = urllib.request.Request(
            f"{self.servers['PREFECT_API_URL']}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody uses now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("up") / "home"
    home.mkdir()
    prefect_port, mlflow_port = free_ports(2)
    running = Running(home, "up", "--prefect-port", str(prefect_port), "--mlflow-port", str(mlflow_port))
    running.wait_for("Ctrl-C stops all of it.")
    servers = {
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow_port}",
    }
    yield Up(running, home, servers)
    if running.process.poll() is None:
        running.end(signal.SIGINT)


@pytest.mark.slow
def test_its_page_says_where_everything_is(up: Up) -> None:
    assert len(up.running.printed.splitlines()) < 20
    for url in (up.servers["PREFECT_API_URL"].removesuffix("/api"), up.servers["MLFLOW_TRACKING_URI"]):
        assert url in up.running.printed
        assert urllib.request.urlopen(url, timeout=30).status == 200


@pytest.mark.slow
def test_prefect_deploy_puts_the_nightly_schedule_and_the_limit_on_the_server(up: Up) -> None:
    done = up.prefect("--no-prompt", "deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    deployments = {found["name"]: found for found in up.ask("deployments/filter", {})}
    assert set(deployments) == {"quickstart", "on-demand"}
    nightly = deployments["quickstart"]
    assert [schedule["schedule"]["cron"] for schedule in nightly["schedules"]] == ["0 2 * * *"]
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["parameters"]["plan"] == "quickstart"
    form = deployments["on-demand"]["parameter_openapi_schema"]
    assert {"name", "data", "model", "rounds", "algorithm"} <= set(form["definitions"]["Plan"]["properties"])


@pytest.mark.slow
def test_the_server_plans_the_nightly_runs(up: Up) -> None:
    nightly = {
        "deployments": {"name": {"any_": ["quickstart"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    wait_until(lambda: up.ask("flow_runs/count", nightly) >= 3, 120)
    assert "ERROR" not in (up.home / "logs" / "prefect-server.log").read_text()


@pytest.mark.slow
def test_a_deployment_run_trains_on_the_worker_and_registers_in_the_mlflow_server(up: Up) -> None:
    done = up.prefect(
        "deployment", "run", "train/on-demand", "--param", "plan=breast-cancer", "--param", SMALL, "--watch"
    )
    assert done.returncode == 0, done.stdout + done.stderr + up.running.printed
    models = json.loads(roundhouse(up.home, "models", "--json", extra=up.servers).stdout)
    assert [(found["model"], found["latest"], found["round"]) for found in models] == [("breast-cancer", "2", "2")]


@pytest.mark.slow
def test_two_runs_of_one_plan_follow_one_another(up: Up) -> None:
    run = ("deployment", "run", "train/on-demand", "--param", "plan=linear-regression", "--param", SMALL)
    for _ in range(2):
        assert up.prefect(*run).returncode == 0
    tasks = {"task_runs": {"name": {"like_": "linear-regression"}}, "sort": "EXPECTED_START_TIME_ASC", "limit": 200}
    wait_until(lambda: _finished(up) == 2, 240)
    time.sleep(1)  # the last task runs are still being recorded
    order = [found["flow_run_id"] for found in up.ask("task_runs/filter", tasks)]
    first = order[0]
    assert len(set(order)) == 2
    assert first not in order[order.index(next(found for found in order if found != first)) :]


def _finished(up: Up) -> int:
    runs = up.ask("flow_runs/filter", {"flow_runs": {"name": {"any_": ["linear-regression"]}}})
    assert not [found for found in runs if found["state_type"] in ("FAILED", "CRASHED")]
    return sum(found["state_type"] == "COMPLETED" for found in runs)


@pytest.mark.slow
def test_the_same_command_uses_the_servers_that_are_set(up: Up) -> None:
    done = roundhouse(up.home, "train", "quickstart", "--set", "rounds=2", "--json", extra=up.servers)
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout)["run_id"]
    url = f"{up.servers['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/get?run_id={run_id}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert json.load(answer)["run"]["info"]["status"] == "FINISHED"


@pytest.mark.slow
def test_servers_with_nothing_to_do_do_nothing(up: Up) -> None:
    children = psutil.Process(up.running.process.pid).children(recursive=True)
    before = sum(sum(child.cpu_times()[:2]) for child in children)
    time.sleep(5)
    assert sum(sum(child.cpu_times()[:2]) for child in children) - before < 3


@pytest.mark.slow
def test_a_port_in_use_is_one_line(up: Up) -> None:
    port = up.servers["MLFLOW_TRACKING_URI"].rpartition(":")[2]
    done = roundhouse(up.home, "up", "--prefect-port", str(free_ports(1)[0]), "--mlflow-port", port)
    assert done.returncode == 2
    assert done.stderr == (f"error: port {port} is in use; stop what uses it, or choose another with --mlflow-port\n")


@pytest.mark.slow
def test_ctrl_c_stops_all_of_it(up: Up) -> None:
    children = psutil.Process(up.running.process.pid).children(recursive=True)
    assert len(children) >= 3
    assert up.running.end(signal.SIGINT) == 130
    assert not [child for child in children if child.is_running() and Path(f"/proc/{child.pid}").exists()]
    assert up.running.printed.rstrip().endswith("stopped")


@pytest.mark.slow
def test_afterwards_the_same_plan_trains_without_servers_in_the_same_home(up: Up) -> None:
    done = roundhouse(up.home, "train", "breast-cancer", "--set", "rounds=1", "--set", "baselines=false", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model_version"] == "3"
