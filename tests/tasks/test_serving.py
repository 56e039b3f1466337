"""A version as a service sees it: checked here, and served by MLflow's own command."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs import environment
from federated.errors import InputError, TrainingError
from flows.train import train
from models.keras_engine import KerasEngine
from models.loaded_model import LoadedModel
from roundhouse.cli import app
from tasks.drifting import measure_drift
from tasks.promoting import raw_federation, score_version
from tasks.serving import serve_check
from tasks.starting import starting_point
from tasks.stored import Library, StoredVersion
from tasks.training import Sealed
from tests.flows.test_retrain import ROWS, sites_plan, write
from tests.roundhouse.commands import environment as of_commands
from tests.roundhouse.commands import wait_until
from tests.roundhouse.test_up_command import free_ports
from tests.tasks.test_stored import at, copied, new_home, stored_file


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sites`` with a champion."""
    home = new_home(tmp_path_factory.mktemp("served"), empty_mlflow)
    write(home.parent / "table.csv", ROWS)
    with at(home):
        train(sites_plan(home.parent / "table.csv"))
        Library().client.set_registered_model_alias("sites", "champion", "2")
    return home


@pytest.fixture
def home(trained: Path) -> Iterator[Path]:
    with at(trained):
        yield trained


@pytest.mark.parametrize("uri", ["sites", "sites/2", "sites@champion", "models:/sites@champion"])
def test_a_version_that_serves_says_so(home: Path, uri: str) -> None:
    found = serve_check(uri)
    assert (found.name, found.version, found.shape) == ("sites", "2", (2, 1))
    assert 0 < found.predict_seconds < 60 > found.load_seconds > 0


def test_the_command_says_what_it_saw_in_a_line_or_an_object(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed = []
    for options in ([], ["--json"]):
        app(["serve-check", "sites@champion", *options], standalone_mode=False)
        printed.append(capfd.readouterr().out.splitlines()[-1])  # pytest's streams let Keras' progress bar through
    assert re.fullmatch(r"sites version 2: loads in \d+\.\d s, predicts 2 x 1 numbers in \d+ ms", printed[0])
    found = json.loads(printed[1])
    assert (found["name"], found["version"], found["shape"]) == ("sites", "2", [2, 1])


@pytest.mark.parametrize("uri", ["sites/99", "nobody", "sites@canary"])
def test_a_version_that_is_not_there_is_one_line(home: Path, uri: str) -> None:
    with pytest.raises(InputError, match=f"^{uri}: there is none; roundhouse models lists what there is$"):
        serve_check(uri)


def test_a_version_that_was_changed_is_not_loaded(trained: Path, tmp_path: Path) -> None:
    with at(copied(trained, tmp_path)):
        stored_file("2", "data/model.keras", "sites").write_bytes(b"os.system")
        with pytest.raises(TrainingError, match=r"^sites/2 is not what its training registered: .*changed; roundhouse"):
            serve_check("sites")


def scored(home: Path) -> Any:
    plan = sites_plan(home.parent / "table.csv")
    return score_version.fn("sites", "2", Sealed(raw_federation(plan)))


def started_from(home: Path) -> Any:
    plan = sites_plan(home.parent / "table.csv", "start={kind: champion}")
    federation = plan.federation()
    return starting_point(plan, KerasEngine(plan.model, federation.inputs, federation.classes))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "scored": scored,
    "started from": started_from,
    "measured for drift": lambda home: measure_drift.fn(sites_plan(home.parent / "table.csv")),
    "checked": lambda home: serve_check("sites"),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_what_is_loaded_is_what_was_verified_whatever_the_store_serves_next(
    load: Callable[[Path], Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store exchanges the weights as soon as they have been fetched."""
    copy = copied(trained, tmp_path)
    shutil.copy(trained.parent / "table.csv", tmp_path)
    fetched: list[str] = []

    @contextlib.contextmanager
    def exchanged(library: Library, uri: str, files: str = "") -> Iterator[StoredVersion]:
        with fetch(library, uri, files) as stored:
            fetched.append(uri)
            for path in ("data/model.keras", "round/state.safetensors"):
                stored_file("2", path, "sites").write_bytes(b"other weights")
            yield stored

    with at(copy):
        fetch = Library.open
        monkeypatch.setattr(Library, "open", exchanged)
        assert load(copy) is not None
    assert len(fetched) == 1


class Raising:
    """A model that cannot predict."""

    input_example = np.zeros((2, 2), np.float32)

    def predict(self, rows: Any) -> Any:
        raise RuntimeError("no GPU here")


def predicting(outputs: Any) -> SimpleNamespace:
    return SimpleNamespace(input_example=np.zeros((2, 2), np.float32), predict=lambda rows: np.asarray(outputs))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Raising(), r"^sites/2 cannot predict its own example: no GPU here$"),
        (predicting([[0.5]]), r"^sites/2: 2 rows gave predictions of shape \(1, 1\), or NaN$"),
        (predicting([[0.5], [np.nan]]), r"^sites/2: 2 rows gave predictions of shape \(2, 1\), or NaN$"),
        (predicting([[0.5], [np.inf]]), r"^sites/2: 2 rows gave"),
    ],
    ids=["raises", "too few", "NaN", "infinity"],
)
def test_a_model_that_predicts_nonsense_does_not_serve(
    home: Path, model: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlflow.pyfunc.load_model", lambda uri: model)
    with pytest.raises(TrainingError, match=reason):
        serve_check("sites")


def test_a_model_that_cannot_be_loaded_does_not_serve(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(uri: str) -> Any:
        raise TypeError("Could not locate class 'Attention'")

    monkeypatch.setattr("mlflow.pyfunc.load_model", load)
    with pytest.raises(TrainingError, match=r"^sites/2 cannot be loaded: Could not locate class 'Attention'"):
        serve_check("sites")


@pytest.fixture
def service(home: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``mlflow models serve``, a process of its own with nothing but MLflow's settings."""
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    command = ["-m", "mlflow", "models", "serve", "-m", "models:/sites@champion", "--env-manager", "local"]
    env = of_commands(home, {"MLFLOW_TRACKING_URI": environment.embedded_tracking_uri(), **environment.QUIET})
    with (tmp_path / "service.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            env=env | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"},
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{address}/ping"), 120)
        assert process.poll() is None, (tmp_path / "service.log").read_text()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def test_mlflow_serves_the_champion_with_the_predictions_of_the_model(home: Path, service: str) -> None:
    rows = raw_federation(sites_plan(home.parent / "table.csv")).test.x
    served = [invoked(service, {"inputs": rows.tolist()}) for _ in range(2)]
    ours = LoadedModel(stored_file("2", "data/model.keras", "sites")).predict(rows)
    assert ours.shape == (len(rows), 1)
    for predictions in served:
        np.testing.assert_allclose(predictions, ours, atol=1e-6)
    with pytest.raises(urllib.error.HTTPError, match="400"):  # rows of another shape than the signature's
        invoked(service, {"inputs": rows[:, :1].tolist()})


def invoked(service: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{service}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.load(answer)["predictions"]
