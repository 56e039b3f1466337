"""What a delivery does, without servers: ``ci/deploy.sh``, and that ``prefect.yaml`` fits the flows."""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prefect.utilities.importtools import import_object

from configs.loading import load_plan
from federated.errors import InputError
from flows.drift import DRIFTED
from flows.promote import promote
from tests.flows.test_train import commit_of_this_checkout

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "ci" / "deploy.sh"
SERVERS = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}

STAND_IN = f"""#!{sys.executable}
import json, os, pathlib, sys
called = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
with open(os.environ["CALLED"], "a") as file:
    file.write(json.dumps(called) + chr(10))
sys.exit(next((code for text, code in json.loads(os.environ["CODES"]).items() if text in " ".join(called)), 0))
"""
"""Notes what it was called with, and ends with the code that was ordered for such a call."""


class Delivered(NamedTuple):
    """How the script ended, what it wrote, and the commands that it ran."""

    code: int
    written: str
    called: list[list[str]]


def deliver(folder: Path, *arguments: str, env: dict[str, str] = SERVERS, **codes: int) -> Delivered:
    """Runs the script with commands that only note that they were called."""
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    for name in ("roundhouse", "prefect"):
        (folder / "bin" / name).write_text(STAND_IN)
        (folder / "bin" / name).chmod(0o755)
    calls = folder / "called.jsonl"
    calls.touch()
    own = {"ROUNDHOUSE_BIN": str(folder / "bin"), "CALLED": str(calls), "CODES": json.dumps(codes)}
    done = subprocess.run(
        [SCRIPT, *arguments],
        env={"PATH": os.environ["PATH"], **own, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    called = [json.loads(line) for line in calls.read_text().splitlines()]
    return Delivered(done.returncode, done.stdout + done.stderr, called)


def after(called: list[str], option: str) -> list[str]:
    """The values of an option, however often it is there."""
    return [value for name, value in itertools.pairwise(called) if name == option]


def test_a_delivery_lints_deploys_trains_and_promotes_in_this_order(tmp_path: Path) -> None:
    done = deliver(tmp_path, "quickstart", "ci-7")
    assert done.code == 0, done.written
    plans, check, deploy, training, promotion = done.called
    assert plans == ["roundhouse", "plans"]
    assert check == ["roundhouse", "check", "quickstart", "--no-data"]
    assert deploy == ["prefect", "--no-prompt", "deploy", "--all"]
    assert training == ["roundhouse", "train", "quickstart", "--run-key", "ci-7", "--on-worker"]
    assert promotion == ["roundhouse", "promote", "quickstart", "--run-key", "ci-7", "--on-worker"]


def test_changes_of_the_plan_reach_the_training_and_the_promotion(tmp_path: Path) -> None:
    changes = ["rounds=2", "promotion.gates=[{kind: at_least, metric: accuracy, value: 0.9}]", "description=two words"]
    _, check, _, training, promotion = deliver(tmp_path, "quickstart", "ci-7", *changes).called
    assert after(check, "--set") == after(training, "--set") == after(promotion, "--set") == changes


@pytest.mark.skipif(commit_of_this_checkout() is None, reason="no git repository")
def test_without_a_run_key_it_is_the_commits(tmp_path: Path) -> None:
    done = deliver(tmp_path, "quickstart")
    assert after(done.called[3], "--run-key") == [f"ci-{commit_of_this_checkout()[:12]}"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("step", "code", "steps"),
    [("plans", 2, 1), ("check", 2, 2), ("deploy --all", 1, 3), ("train", 1, 4), ("promote", 1, 5), ("promote", 3, 5)],
)
def test_a_step_that_fails_is_the_last_and_its_code_the_scripts(
    tmp_path: Path, step: str, code: int, steps: int
) -> None:
    done = deliver(tmp_path, "quickstart", "ci-7", **{step: code})
    assert (done.code, len(done.called)) == (code, steps)


@pytest.mark.parametrize("missing", SERVERS)
@pytest.mark.parametrize("value", [None, ""])
def test_without_a_server_it_says_which_before_it_does_anything(
    tmp_path: Path, missing: str, value: str | None
) -> None:
    env = {name: url for name, url in SERVERS.items() if name != missing} | ({} if value is None else {missing: value})
    done = deliver(tmp_path, "quickstart", env=env)
    assert done.code not in (0, 3)
    assert f"{missing}: is not set: the URL of " in done.written
    assert done.called == []


def test_without_a_plan_it_says_how_it_is_used(tmp_path: Path) -> None:
    done = deliver(tmp_path)
    assert done.code not in (0, 3)
    assert "usage: ci/deploy.sh PLAN [RUN-KEY [PATH=VALUE …]]" in done.written
    assert done.called == []


def test_the_workflow_runs_the_script_with_the_servers_that_it_needs() -> None:
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())["jobs"]["deploy"]
    assert job["env"].keys() >= SERVERS.keys()
    assert job["steps"][-1]["run"].startswith('ci/deploy.sh "$PLAN" "ci-')


# prefect.yaml


DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]


def flow_of(deployment: dict[str, Any]) -> Any:
    module, _, name = deployment["entrypoint"].rpartition(".")
    return getattr(importlib.import_module(module), name)


def named(deployment: dict[str, Any]) -> str:
    return f"{flow_of(deployment).name}/{deployment['name']}"


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=named)
def test_every_deployments_parameters_are_the_flows(deployment: dict[str, Any]) -> None:
    inspect.signature(flow_of(deployment).fn).bind_partial(**deployment["parameters"])


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=named)
def test_what_starts_by_itself_is_given_all_that_the_flow_needs(deployment: dict[str, Any]) -> None:
    flow, own = flow_of(deployment), deployment["parameters"]
    for starter in [*deployment.get("schedules", []), *deployment.get("triggers", [])]:
        parameters = own | starter.get("parameters", {})
        inspect.signature(flow.fn).bind(**parameters)
        assert load_plan(flow.validate_parameters(parameters)["plan"])


def test_runs_start_in_the_workers_folder_whoever_deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (step,) = yaml.safe_load((ROOT / "prefect.yaml").read_text())["pull"]
    (name,) = step
    enter = import_object(name)
    monkeypatch.delenv("ROUNDHOUSE_FOLDER", raising=False)
    assert enter() == {"directory": str(ROOT)}
    monkeypatch.setenv("ROUNDHOUSE_FOLDER", str(tmp_path))
    assert enter() == {"directory": str(tmp_path)}
    monkeypatch.setenv("ROUNDHOUSE_FOLDER", str(tmp_path / "absent"))
    with pytest.raises(InputError, match="ROUNDHOUSE_FOLDER: set it where the worker runs"):
        enter()


def test_no_deployment_that_may_pause_for_a_person_has_a_concurrency_limit() -> None:
    """Its place is lost with the pause, and Prefect cancels who cannot renew it."""
    (promotion,) = [deployment for deployment in DEPLOYMENTS if flow_of(deployment) is promote]
    assert "concurrency_limit" not in promotion


def test_deployments_are_told_apart_by_flow_and_name() -> None:
    names = [named(deployment) for deployment in DEPLOYMENTS]
    assert len(set(names)) == len(names)
    assert {"retrain/quickstart", "drift/quickstart", "train/on-demand", "promote/on-demand"} < set(names)


def test_a_drift_of_the_plan_that_is_retrained_starts_the_retraining() -> None:
    (retraining,) = [deployment for deployment in DEPLOYMENTS if named(deployment) == "retrain/quickstart"]
    (trigger,) = retraining["triggers"]
    name = load_plan(retraining["parameters"]["plan"]).name
    assert trigger["expect"] == [DRIFTED]
    assert trigger["match"] == {"prefect.resource.id": f"roundhouse.model.{name}"}
    assert trigger["parameters"] == {"plan": name, "only_new_data": False}
