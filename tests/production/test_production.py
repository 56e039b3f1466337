"""The quickstart against PostgreSQL, an S3 store, and Prefect and MLflow with passwords; and their back-up."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.production.conftest import QUICK, SUPERUSER_PASSWORD, Production, Trained
from tests.production.servers import free_ports, postgresql, run
from tests.roundhouse.commands import environment, roundhouse, wait_until

WRONG = "a-wrong-password"
_AT_ONCE = 60  # seconds, on a busy machine; what is away is waited for much longer

READ = """
import json, sys
import mlflow, numpy as np

run_id = sys.argv[1]
client = mlflow.MlflowClient()
images = np.random.default_rng(0).uniform(0, 16, (5, 8, 8, 1)).astype(np.float32)
raw = mlflow.pyfunc.load_model("models:/quickstart@latest").predict(images)
keras = mlflow.keras.load_model("models:/quickstart/3").predict(images, verbose=0)
names = [name for name in client.get_run(run_id).data.metrics if not name.startswith("test_")]
print(json.dumps({
    "shape": raw.shape,
    "sums_to": raw.sum(axis=1).round(3).tolist(),
    "same": bool(np.allclose(raw, keras)),
    "steps": {name: [point.step for point in client.get_metric_history(run_id, name)] for name in names},
    "versions": sorted(int(found.version) for found in client.search_model_versions("name='quickstart'")),
}))
"""


@pytest.fixture(scope="module")
def read(production: Production, trained: Trained) -> dict[str, Any]:
    """What a script of a user finds with the client's settings alone: it has no key of the bucket."""
    env = environment(trained.home, production.client)
    assert not {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"} & set(env)
    command = [sys.executable, "-c", READ, trained.summary["run_id"]]
    done = subprocess.run(command, env=env, cwd=trained.home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def logs(home: Path) -> str:
    """What the command wrote beside what it printed."""
    return "".join(path.read_text() for path in (home / "logs").glob("*"))


def test_servers_do_not_change_the_result(trained: Trained, warm_home: Path) -> None:
    done = roundhouse(warm_home, *QUICK)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights_sha256"] == trained.summary["weights_sha256"]


def test_every_round_has_a_version_that_loads_without_a_key_of_the_bucket(read: dict[str, Any]) -> None:
    assert read["versions"] == [1, 2, 3]
    assert read["shape"] == [5, 10]
    assert read["sums_to"] == [1.0] * 5
    assert read["same"]


def test_every_metric_of_every_round_is_there_once(read: dict[str, Any]) -> None:
    assert {"loss", "accuracy", "cohort"} <= set(read["steps"])
    assert {name: steps for name, steps in read["steps"].items() if steps != [1, 2, 3]} == {}


def test_artifacts_are_in_the_bucket_and_nowhere_else(production: Production, trained: Trained) -> None:
    keys = {found.key for found in production.bucket().objects.all()}
    run = trained.summary["run_id"]
    assert {key.partition(run)[2] for key in keys if run in key} >= {
        "/artifacts/plan/plan.yaml",
        "/artifacts/summary.json",
    }
    assert sum(key.endswith("model.keras") for key in keys) == 3
    assert not (trained.home / "artifacts").exists()
    assert not list(trained.home.glob("*.db"))


def test_every_task_run_is_recorded_in_postgresql(production: Production, trained: Trained) -> None:
    """The server stores what tasks report after the command has ended."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    of_rounds = {"task_runs": {"name": {"like_": "aggregate_updates quickstart"}, **completed}}
    wait_until(lambda: prefect(production, "task_runs/count", of_rounds) == trained.summary["rounds"], 30)
    (run,) = prefect(production, "flow_runs/filter", {"flow_runs": completed})
    assert run["name"] == "quickstart"


def prefect(production: Production, path: str, body: dict[str, Any]) -> Any:
    """Asks Prefect's API, with its password."""
    token = base64.b64encode(production.client["PREFECT_API_AUTH_STRING"].encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {token}"}
    url = f"{production.client['PREFECT_API_URL']}/{path}"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=30) as answer:
        return json.load(answer)


def test_runs_and_models_are_listed(production: Production, trained: Trained) -> None:
    (run,) = json.loads(production.roundhouse(trained.home, "runs", "--json").stdout)
    assert (run["run_id"], run["status"], run["version"]) == (trained.summary["run_id"], "FINISHED", "3")
    (model,) = json.loads(production.roundhouse(trained.home, "models", "--json").stdout)
    assert (model["latest"], model["weights_sha256"]) == ("3", trained.summary["weights_sha256"])


def test_no_password_is_printed_or_written_to_a_log(production: Production, trained: Trained) -> None:
    assert logs(trained.home)
    assert production.leaked(trained.printed, logs(trained.home)) == []


@pytest.mark.parametrize(
    ("arguments", "variable", "value"),
    [
        (QUICK, "PREFECT_API_AUTH_STRING", f"admin:{WRONG}"),
        pytest.param(QUICK, "MLFLOW_TRACKING_PASSWORD", WRONG, marks=pytest.mark.slow),
        (("runs",), "MLFLOW_TRACKING_PASSWORD", WRONG),
    ],
)
def test_a_wrong_password_is_one_line_that_names_its_variable(
    production: Production, tmp_path: Path, arguments: tuple[str, ...], variable: str, value: str
) -> None:
    done = production.roundhouse(tmp_path, *arguments, seconds=_AT_ONCE, **{variable: value})
    assert (done.returncode, done.stdout) == (1, "")
    said = [line for line in done.stderr.splitlines() if not line.startswith(("starting ", "quickstart: "))]
    assert len(said) == 1, said
    assert said[0].startswith("error: ")
    assert variable in said[0]
    assert production.leaked(done.stderr, logs(tmp_path)) == []
    assert WRONG not in done.stderr + logs(tmp_path)


# The back-up, as docs/operations.md writes it


COUNTED = {
    "mlflow": "SELECT count(*), min(run_id) FROM model_versions",
    "mlflow_auth": "SELECT count(*), min(username) FROM users",
    "prefect": "SELECT count(*), min(name) FROM flow_run",
}


def test_a_back_up_holds_versions_users_and_flow_runs(production: Production, trained: Trained, tmp_path: Path) -> None:
    documented, env = production.documented, environment(tmp_path)
    for name in COUNTED:
        run(documented.command(f"pg_dump --format=custom --file {name}.dump"), env, tmp_path)
    counts = {name: run(_asking(production, name, production.database), env, tmp_path) for name in COUNTED}
    assert counts["mlflow"] == f"3|{trained.summary['run_id']}\n"
    (empty,) = free_ports(1)
    with postgresql(empty, SUPERUSER_PASSWORD, tmp_path / "postgresql.log"):
        (tmp_path / "servers.sql").write_text(documented.file("servers.sql"))
        commands = [documented.command("psql "), *(documented.command(f"pg_restore .*/{name} ") for name in COUNTED)]
        for command in commands:
            there = [part.replace(f":{production.database}", f":{empty}") for part in command]
            run(there, {**env, "PGPASSWORD": SUPERUSER_PASSWORD}, tmp_path)
        assert {name: run(_asking(production, name, empty), env, tmp_path) for name in COUNTED} == counts


def _asking(production: Production, name: str, port: int) -> list[str]:
    """A question to one of the databases, as its owner."""
    restore = production.documented.command(f"pg_restore .*/{name} ")
    url = restore[restore.index("--dbname") + 1].replace(f":{production.database}", f":{port}")
    return ["psql", url, "--tuples-only", "--no-align", "--command", COUNTED[name]]
