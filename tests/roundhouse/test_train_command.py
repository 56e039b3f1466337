"""``roundhouse train`` as a user meets it."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
from pathlib import Path

import psutil
import pytest

from configs.loading import load_plan, shipped
from federated.privacy.accounting import SelfComposed, tight
from tests.roundhouse.commands import Running, here, roundhouse, wait_until

QUICK = ("quickstart", "--set", "rounds=2", "--set", "baselines=false")
KEYS = [
    "run_id", "plan", "rounds", "stop_reason", "privacy", "metrics", "per_client",
    "model_name", "model_version", "weights_sha256", "seconds",
]  # fmt: skip


def rows(database: Path, query: str) -> list[tuple[object, ...]]:
    """What a SQLite file holds."""
    with sqlite3.connect(database) as connection:
        found = connection.execute(query).fetchall()
    connection.close()
    return found


def test_json_is_one_object_and_everything_else_is_quiet(home: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    watch = {"PYTHONPATH": str(Path(__file__).parent), "ADDRESSES_ASKED": str(asked)}
    done = roundhouse(home, "train", *QUICK, "--json", extra=watch)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert list(summary) == KEYS
    assert done.stdout.count("\n") == 1
    assert (summary["rounds"], summary["stop_reason"], summary["model_version"]) == (2, "rounds", "2")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not line.startswith(("starting ", "quickstart: ", "round "))] == []
    assert "10 clients  loss" in lines[-1]
    assert not asked.exists(), f"asked for {asked.read_text()}"
    (log,) = (home / "logs").iterdir()
    assert "Traceback" not in log.read_text()
    _look_back(home, summary["run_id"], summary["weights_sha256"])
    _every_task_run_is_recorded(home)


def _look_back(home: Path, run_id: str, weights: str) -> None:
    (run,) = json.loads(here(home, "runs", "--json").stdout)
    assert (run["run_id"], run["status"], run["version"]) == (run_id, "FINISHED", "2")
    (model,) = json.loads(here(home, "models", "--json").stdout)
    assert (model["uri"], model["weights_sha256"]) == ("models:/quickstart@latest", weights)
    assert run_id in here(home, "runs").stdout


def _every_task_run_is_recorded(home: Path) -> None:
    database = home / "prefect" / "prefect.db"
    assert rows(database, "select distinct state_type from task_run") == [("COMPLETED",)]
    assert rows(database, "select state_type from flow_run") == [("COMPLETED",)]
    assert rows(database, "select count(*) from task_run where name like 'register_model%'") == [(2,)]


def test_the_summary_says_what_came_out_where_it_is_and_what_to_try(warm_home: Path) -> None:
    plan = str(shipped()["quickstart"])
    done = roundhouse(warm_home, "train", plan, "--set", "rounds=2")
    assert done.returncode == 0, done.stderr
    assert f"roundhouse train {plan} --set" in done.stdout
    for text in (
        "federated model", "pooled rows", "a client alone: median", "client-19",
        "MLflow run", "models:/quickstart@latest, version 2", "roundhouse up     every run",
    ):  # fmt: skip
        assert text in done.stdout


def test_ctrl_c_ends_it_as_cancelled_and_killed_and_keeps_the_models(warm_home: Path) -> None:
    running = Running(warm_home, "train", "quickstart", "--set", "rounds=5000")
    running.wait_for("round 3/5000")
    assert running.end(signal.SIGINT) == 130
    (key,) = set(re.findall(r"run key (\S+)", running.printed))
    assert running.printed.endswith(f"stopping; --run-key {key} goes on\nstopped\n")
    assert rows(warm_home / "mlflow.db", "select status from runs") == [("KILLED",)]
    assert rows(warm_home / "prefect" / "prefect.db", "select state_type from flow_run") == [("CANCELLED",)]
    (model,) = json.loads(here(warm_home, "models", "--json").stdout)
    assert int(model["round"]) >= 2


@pytest.mark.slow
def test_kill_9_takes_the_embedded_server_along_and_the_next_training_is_not_held_up(warm_home: Path) -> None:
    running = Running(warm_home, "train", "quickstart", "--set", "rounds=5000")
    running.wait_for("round 2/5000")
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert children
    running.end(signal.SIGKILL)
    wait_until(lambda: not any(child.is_running() for child in children), 15)
    following = Running(warm_home, "train", *QUICK)
    following.wait_for("round 2/2")
    assert following.process.wait(timeout=15) == 0, following.printed  # a count of orphans would take 20 s


@pytest.mark.slow
def test_sigterm_ends_it_as_killed(warm_home: Path) -> None:
    running = Running(warm_home, "train", "quickstart", "--set", "rounds=5000")
    running.wait_for("round 2/5000")
    assert running.end(signal.SIGTERM) != 0
    assert rows(warm_home / "mlflow.db", "select status from runs") == [("KILLED",)]


@pytest.mark.slow
def test_two_first_trainings_of_one_plan_at_a_time_leave_one_consistent_registry(tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    home.mkdir()
    small = ("--set", "baselines=false", "--set", "rounds=3")
    both = [Running(home, "train", "quickstart", *small, "--run-key", key) for key in ("one", "other")]
    for running in both:
        assert running.process.wait(timeout=120) == 0, running.printed
    assert rows(home / "mlflow.db", "select status, count(*) from runs group by status") == [("FINISHED", 2)]
    tags = "select v.version, t.value from model_versions v join model_version_tags t using (name, version)"
    of = {name: dict(rows(home / "mlflow.db", f"{tags} where t.key = '{name}'")) for name in TAGS}
    assert sorted(of["round"]) == [1, 2, 3, 4, 5, 6]
    for key in ("one", "other"):
        own = [version for version in sorted(of["round"]) if of["run_key"][version] == key]
        assert [of["round"][version] for version in own] == ["1", "2", "3"]
        assert [of["parent_version"].get(version) for version in own] == [None, *map(str, own[:-1])]
    weights = [{of["weights_sha256"][version] for version in of["round"] if of["round"][version] == n} for n in "123"]
    assert [len(found) for found in weights] == [1, 1, 1]  # the same plan: the same bits
    aliases = dict(rows(home / "mlflow.db", "select alias, version from registered_model_aliases"))
    assert aliases.keys() == {"candidate"}
    assert of["round"][aliases["candidate"]] == "3"
    assert all(roundhouse(home, "verify", f"quickstart/{version}").returncode == 0 for version in (5, 6))


TAGS = ("round", "run_key", "parent_version", "weights_sha256")


@pytest.mark.slow
def test_models_are_listed_after_a_training_that_registered_none(warm_home: Path) -> None:
    diverging = ("--set", "algorithm.local.optimizer.learning_rate=1.0e+30")
    assert roundhouse(warm_home, "train", *QUICK, *diverging).returncode == 1
    done = roundhouse(warm_home, "models")
    assert (done.returncode, done.stdout) == (0, "nothing yet; try: roundhouse train quickstart\n")


def test_a_home_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file" / "home", tmp_path / "what?"):
        done = roundhouse(home, "train", *QUICK)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ROUNDHOUSE_HOME: ")


def test_passwords_in_urls_are_not_shown(warm_home: Path) -> None:
    done = roundhouse(warm_home, "runs", extra={"MLFLOW_TRACKING_URI": "http://me:hunter2@127.0.0.1:9"})
    assert done.returncode == 1
    assert "MLflow cannot be reached at http://127.0.0.1:9/health" in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "error: MLflow cannot be reached at http://127.0.0.1:9/health"),
        ("PREFECT_API_URL", "http://127.0.0.1:9/api", "error: Prefect cannot be reached at http://127.0.0.1:9/api"),
    ],
)
def test_a_server_that_is_away_is_one_line_and_exit_code_1(warm_home: Path, variable: str, url: str, says: str) -> None:
    done = roundhouse(warm_home, "train", *QUICK, extra={variable: url})
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr.splitlines()[-1]
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_full_is_one_line_and_leaves_no_run_open(warm_home: Path) -> None:
    big = ("--set", "model.hidden=[1000, 2000]", "--set", "algorithm.select.cohort=1", "--set", "quorum=1")
    done = roundhouse(warm_home, "train", *QUICK, *big, largest_file=6_000_000)
    assert (done.returncode, done.stdout) == (1, "")
    assert ".safetensors: cannot be written: [Errno 27] File too large; check the store and its space" in done.stderr
    assert "Traceback" not in done.stderr
    assert rows(warm_home / "mlflow.db", "select status from runs where status != 'FAILED'") == []
    assert rows(warm_home / "mlflow.db", "select count(*) from model_versions") == [(0,)]


def test_a_training_that_diverges_fails_with_the_round_the_clients_and_what_to_do(warm_home: Path) -> None:
    done = roundhouse(warm_home, "train", *QUICK, "--set", "algorithm.local.optimizer.learning_rate=1.0e+30")
    assert done.returncode == 1
    assert "round 1: 0 usable updates, quorum is 5; NaN or infinity from client-" in done.stderr
    assert "lower algorithm.local.optimizer.learning_rate" in done.stderr


def test_a_budget_that_is_met_ends_with_0_and_one_that_is_spent_refuses_the_next(warm_home: Path) -> None:
    plan = load_plan("private-digits")
    assert plan.privacy is not None
    assert plan.algorithm.release is not None
    budget = tight([SelfComposed(plan.algorithm.release, 1)], plan.privacy.delta) * 1.0001
    asked = ("train", "private-digits", "--set", "rounds=3", "--set", f"privacy.budget={budget}", "--json")
    done = roundhouse(warm_home, *asked)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["rounds"], summary["stop_reason"], summary["model_version"]) == (1, "privacy budget", "1")
    refused = roundhouse(warm_home, *asked)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"more than {budget:g}" in refused.stderr.splitlines()[-1]
    assert rows(warm_home / "mlflow.db", "select count(*) from model_versions") == [(1,)]


def test_bad_data_end_a_training_before_anything_is_written(warm_home: Path) -> None:
    before = (warm_home / "mlflow.db").read_bytes()
    done = roundhouse(warm_home, "train", "csv-template", "--set", "data.path=nowhere.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("error: data.csv.path: there is no file nowhere.csv")
    assert (warm_home / "mlflow.db").read_bytes() == before
    assert not (warm_home / "artifacts").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("device=gpu", "device: gpu, but TensorFlow sees no GPU here; use auto or cpu, or install roundhouse[gpu]"),
        pytest.param(
            "replicas=64",
            "replicas: 64 devices are to train one client together, but TensorFlow sees 1 CPU here; ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_devices_that_are_not_there_end_a_training_before_anything_is_written(
    warm_home: Path, change: str, says: str
) -> None:
    before = (warm_home / "mlflow.db").read_bytes()
    done = roundhouse(warm_home, "train", *QUICK, "--set", change, extra={"CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, done.stdout) == (2, "")
    starting, line = done.stderr.splitlines()
    assert starting.startswith("starting ")
    assert line.startswith(f"error: {says}")
    assert (warm_home / "mlflow.db").read_bytes() == before
    assert not (warm_home / "artifacts").exists()
