"""``roundhouse up``: real servers, real deployments, a real worker."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import yaml

from flows.drift import DRIFTED
from tests.flows.test_retrain import ROWS, sites_plan, write
from tests.roundhouse.commands import Running, environment, roundhouse, wait_until

ENDED = {"COMPLETED", "CANCELLED", "FAILED", "CRASHED"}
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

    def ask(self, path: str, body: dict[str, Any], method: str = "POST") -> Any:
        """Asks Prefect's API; again, as Prefect's clients do, where its SQLite was locked."""
        url, headers = f"{self.servers['PREFECT_API_URL']}/{path}", {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers, method=method)
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=90) as answer:
                    return json.loads(answer.read() or "null")
            except urllib.error.HTTPError as refusal:
                if refusal.code != HTTPStatus.SERVICE_UNAVAILABLE:
                    raise
            time.sleep(0.5)
        raise AssertionError(f"{path}: unavailable for too long")

    @property
    def deployments(self) -> dict[str, dict[str, Any]]:
        """All of them, by flow and name: the name alone says nothing."""
        flows = {found["id"]: found["name"] for found in self.ask("flows/filter", {})}
        return {f"{flows[found['flow_id']]}/{found['name']}": found for found in self.ask("deployments/filter", {})}

    def create(self, deployment_id: str, parameters: dict[str, Any], late: int) -> str:
        """A flow run that should have begun so many seconds ago."""
        due = f"{datetime.now(UTC) - timedelta(seconds=late):%Y-%m-%dT%H:%M:%SZ}"
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        body = {"parameters": parameters, "state": state}
        return str(self.ask(f"deployments/{deployment_id}/create_flow_run", body)["id"])

    def runs(self, chosen: Collection[str]) -> list[dict[str, Any]]:
        """Flow runs by their ids."""
        return list(self.ask("flow_runs/filter", {"flow_runs": {"id": {"any_": sorted(chosen)}}}))

    def started_by_automations(self) -> list[dict[str, Any]]:
        """Flow runs that nobody else began."""
        found = self.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})
        return [run for run in found if (run["created_by"] or {}).get("type") == "AUTOMATION"]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The worker is given nothing to run."""
        self.ask("work_pools/roundhouse", {"is_paused": True}, method="PATCH")
        try:
            yield
        finally:
            self.ask("work_pools/roundhouse", {"is_paused": False}, method="PATCH")


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


def test_its_page_says_where_everything_is(up: Up) -> None:
    assert len(up.running.printed.splitlines()) < 20
    for url in (up.servers["PREFECT_API_URL"].removesuffix("/api"), up.servers["MLFLOW_TRACKING_URI"]):
        assert url in up.running.printed
        assert urllib.request.urlopen(url, timeout=30).status == 200


def test_prefect_deploy_puts_the_schedules_the_trigger_and_the_limits_on_the_server(up: Up) -> None:
    done = up.prefect("--no-prompt", "deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    deployments = up.deployments
    on_demand = {f"{flow}/on-demand" for flow in ("train", "promote", "rollback", "retain")}
    assert set(deployments) == {"retrain/quickstart", "drift/quickstart"} | on_demand
    schedules = {name: [own["schedule"] for own in found["schedules"]] for name, found in deployments.items()}
    when = {name: [own.get("cron") or own["interval"] for own in found] for name, found in schedules.items()}
    scheduled = {"retrain/quickstart": ["0 2 * * *"], "drift/quickstart": [6 * 3600]}
    assert when == {name: [] for name in on_demand} | scheduled
    for name in scheduled:
        assert deployments[name]["parameters"] == {"plan": "quickstart"}
        assert deployments[name]["global_concurrency_limit"]["limit"] == 1
        assert deployments[name]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    (automation,) = up.ask("automations/filter", {})
    assert automation["enabled"]
    assert automation["trigger"]["expect"] == ["roundhouse.drifted"]
    form = deployments["train/on-demand"]["parameter_openapi_schema"]
    assert {"name", "data", "model", "rounds", "algorithm"} <= set(form["definitions"]["Plan"]["properties"])


@pytest.mark.parametrize("flow", ["retrain", "drift"])
def test_the_server_plans_the_scheduled_runs(up: Up, flow: str) -> None:
    planned = {
        "flows": {"name": {"any_": [flow]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    wait_until(lambda: up.ask("flow_runs/count", planned) >= 3, 120)
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
def test_of_runs_that_were_missed_one_runs_and_the_others_are_cancelled(up: Up) -> None:
    retraining = up.deployments["retrain/quickstart"]["id"]
    small = {"plan": "quickstart", "overrides": ["rounds=1", "baselines=false"]}
    # In seconds: what is late by 15 of them the server marks so, and SQLite may be locked for a minute meanwhile.
    missed = {up.create(retraining, small, late=seconds) for seconds in (4, 3, 2)}
    assert len(missed) == 3
    wait_until(lambda: all(found["state_type"] in ENDED for found in up.runs(missed)), 240)
    assert sorted(found["state_type"] for found in up.runs(missed)) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    models = json.loads(roundhouse(up.home, "models", "--json", extra=up.servers).stdout)
    (quickstart,) = [found for found in models if found["model"] == "quickstart"]
    assert quickstart["round"] == "1"


def test_an_event_of_drift_starts_the_retraining(up: Up) -> None:
    with up.paused():
        for model in ("breast-cancer", "quickstart"):
            done = up.prefect("event", "emit", DRIFTED, "--resource-id", f"roundhouse.model.{model}")
            assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: bool(up.started_by_automations()), 60)
        (run,) = up.started_by_automations()
        up.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    assert run["deployment_id"] == up.deployments["retrain/quickstart"]["id"]
    assert run["parameters"] == {"plan": "quickstart", "only_new_data": False}


class Delivery:
    """``ci/deploy.sh`` against the servers that are up, for a small plan."""

    def __init__(self, up: Up, name: str, *overrides: str) -> None:
        self.up, self.name = up, name
        folder = up.home.parent
        write(folder / "table.csv", ROWS)
        self.plan = folder / f"{name}.yaml"
        plan = sites_plan(folder / "table.csv", f"name={name}", "rounds=1", *overrides)
        self.plan.write_text(yaml.safe_dump(plan.model_dump(mode="json")))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs it to its end."""
        own = {"ROUNDHOUSE_BIN": str(Path(sys.executable).parent)}
        return subprocess.run(
            [Path(__file__).parents[2] / "ci" / "deploy.sh", str(self.plan), *arguments],
            env=environment(self.up.home, self.up.servers | own),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def aliases(self) -> dict[str, str]:
        """What every alias of the model stands for."""
        url = f"{self.up.servers['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/get?name={self.name}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            model = json.load(answer)["registered_model"]
        return {found["alias"]: found["version"] for found in model.get("aliases", [])}


def delivers(up: Up) -> None:
    """The same delivery, once or again."""
    delivery = Delivery(up, "delivered")
    done = delivery.run("ci-1", "rounds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    said = "promoted: version 2 is the champion; the plan has no gates: nothing was compared"
    assert done.stdout.rstrip().endswith(said)
    assert delivery.aliases() == {"champion": "2"}


def test_a_delivery_moves_the_champion(up: Up) -> None:
    delivers(up)


@pytest.mark.slow
def test_the_same_delivery_again_changes_nothing(up: Up) -> None:
    delivers(up)


@pytest.mark.slow
def test_a_promotion_on_the_worker_that_a_gate_refuses_ends_with_3(up: Up) -> None:
    delivery = Delivery(up, "delivered")  # the one before has trained it
    gate = "promotion.gates=[{kind: at_least, metric: accuracy, value: 2}]"
    done = roundhouse(
        up.home, "promote", str(delivery.plan), "--on-worker", "--version", "1", "--set", gate, extra=up.servers
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout == "refused: at_least accuracy: accuracy is too low\n"
    assert re.match(r"flow run \S+: http://127\.0\.0\.1:\d+/runs/flow-run/[0-9a-f-]{36}\n", done.stderr)
    assert delivery.aliases() == {"champion": "2"}


@pytest.mark.slow
def test_a_promotion_from_the_command_line_waits_for_those_of_workers(up: Up) -> None:
    delivery = Delivery(up, "delivered")
    place = up.ask("v2/concurrency_limits/filter", {})
    (own,) = [limit for limit in place if limit["name"] == "promotion-delivered"]
    up.ask("v2/concurrency_limits/increment", {"names": [own["name"]], "slots": 1, "mode": "concurrency"})
    arguments = ("promote", str(delivery.plan), "--version", "2")
    promoting = Running(up.home, *arguments, extra=up.servers)
    time.sleep(15)
    assert promoting.process.poll() is None
    up.ask("v2/concurrency_limits/decrement", {"names": [own["name"]], "slots": 1})
    assert promoting.process.wait(timeout=60) == 0, promoting.printed


@pytest.mark.slow
def test_a_delivery_whose_training_fails_ends_there_and_says_why(up: Up) -> None:
    done = Delivery(up, "failing").run("ci-1", "algorithm.local.optimizer.learning_rate=1.0e+30")
    assert done.returncode not in (0, 3), done.stdout + done.stderr
    assert "round 1: 0 usable updates" in done.stderr
    assert "== promote" not in done.stdout


LONG = {"plan": "quickstart", "overrides": ["rounds=5000", "baselines=false", "name=long"]}


def begun(up: Up) -> str:
    """A training on the worker that is among its rounds; gives its flow run."""
    run = up.create(up.deployments["train/on-demand"]["id"], LONG, late=0)
    wait_until(lambda: tracked(up, run) == "RUNNING", 120)
    return run


def tracked(up: Up, flow_run_id: str) -> str | None:
    """The status of the MLflow run of a flow run."""
    with contextlib.closing(sqlite3.connect(up.home / "mlflow.db")) as database:
        found = database.execute(
            "select status from runs join tags using (run_uuid) where key = 'prefect.flow_run_id' and value = ?",
            (flow_run_id,),
        ).fetchone()
    return None if found is None else str(found[0])


def state_of(up: Up, run: str) -> str:
    """The type of a flow run's state."""
    (found,) = up.runs({run})
    return str(found["state_type"])


@pytest.mark.slow
def test_a_training_that_is_cancelled_in_prefect_ends_as_cancelled_and_killed(up: Up) -> None:
    run = begun(up)
    up.ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    wait_until(lambda: (state_of(up, run), tracked(up, run)) == ("CANCELLED", "KILLED"), 90)


@pytest.mark.slow
def test_a_training_whose_process_dies_on_the_worker_is_crashed_and_ended_by_the_next_one(up: Up) -> None:
    run = begun(up)
    for child in psutil.Process(up.running.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # some have just ended
            if child.environ().get("PREFECT__FLOW_RUN_ID") == run:
                child.kill()
    wait_until(lambda: state_of(up, run) == "CRASHED", 90)
    small = ("--set", "rounds=1", "--set", "baselines=false", "--set", "name=long")
    done = roundhouse(up.home, "train", "quickstart", *small, "--on-worker", extra=up.servers)
    assert done.returncode == 0, done.stderr
    assert (state_of(up, run), tracked(up, run)) == ("CRASHED", "KILLED")


@pytest.mark.slow
def test_runs_do_not_need_the_folder_that_deployed_them(up: Up, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(Path(__file__).parents[2] / "prefect.yaml", elsewhere)
    deploy = [Path(sys.executable).parent / "prefect", "--no-prompt", "deploy", "--all"]
    subprocess.run(deploy, cwd=elsewhere, env=environment(up.home, up.servers), check=True, capture_output=True)
    shutil.rmtree(elsewhere)
    small = ("--set", "rounds=1", "--set", "baselines=false")
    done = roundhouse(up.home, "train", "linear-regression", *small, "--on-worker", extra=up.servers)
    assert (done.returncode, done.stdout) == (0, "completed\n"), done.stderr


def test_servers_with_nothing_to_do_do_nothing(up: Up) -> None:
    children = psutil.Process(up.running.process.pid).children(recursive=True)
    before = {child: cpu_seconds(child) for child in children}
    time.sleep(5)
    assert sum(cpu_seconds(child) - before[child] for child in children if child.is_running()) < 3


def cpu_seconds(process: psutil.Process) -> float:
    """Nothing for one that has just ended."""
    try:
        return sum(process.cpu_times()[:2])
    except psutil.NoSuchProcess:
        return 0.0


def test_a_port_in_use_is_one_line(up: Up) -> None:
    port = up.servers["MLFLOW_TRACKING_URI"].rpartition(":")[2]
    done = roundhouse(up.home, "up", "--prefect-port", str(free_ports(1)[0]), "--mlflow-port", port)
    assert done.returncode == 2
    assert done.stderr == (f"error: port {port} is in use; stop what uses it, or choose another with --mlflow-port\n")


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
