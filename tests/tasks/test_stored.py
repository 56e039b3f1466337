"""Versions read back from MLflow; and homes with trainings in them, for whoever changes what is stored."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from federated.errors import InputError, TrackingError
from federated.updates import digest
from flows.train import train
from tasks.signing import ForgedError, trusted_keys
from tasks.stored import Library
from tasks.tracking import START
from tests.flows.test_train import small_plan

PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
"""Where MLflow's database says in which folder something is."""


def new_home(folder: Path, empty_mlflow: Path) -> Path:
    """A ``ROUNDHOUSE_HOME`` with nothing in it."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(empty_mlflow, home / "mlflow.db")
    return home


@contextlib.contextmanager
def at(home: Path) -> Iterator[None]:
    """Trainings and everything else use this home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROUNDHOUSE_HOME", str(home))
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # MLflow sets them for itself
            patch.delenv(name, raising=False)
        yield


def copied(home: Path, folder: Path) -> Path:
    """A home with the same trainings, to spoil."""
    copy = folder / "home"
    shutil.copytree(home, copy, ignore=shutil.ignore_patterns("mlflow.db*"))
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as before, database(copy) as after:
        before.backup(after)
        for table, column in PLACES.items():
            after.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(home), str(copy)))
    return copy


@contextlib.contextmanager
def database(home: Path) -> Iterator[sqlite3.Connection]:
    """MLflow's, behind its back."""
    with contextlib.closing(sqlite3.connect(home / "mlflow.db", timeout=30)) as connection, connection:
        yield connection


def stored_file(version: str, path: str, name: str = "quickstart") -> Path:
    """Where MLflow keeps a file of a version."""
    client = Library().client
    model_id = client.get_model_version(name, version).source.rpartition("/")[2]
    return Path(url2pathname(urlsplit(client.get_logged_model(model_id).artifact_location).path)) / path


def run_file(version: str, path: str, name: str = "quickstart") -> Path:
    """Where MLflow keeps an artifact of the training that a version is of."""
    client = Library().client
    run = client.get_run(client.get_model_version(name, version).run_id)
    return Path(url2pathname(urlsplit(run.info.artifact_uri).path)) / path


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two rounds, versions 1 and 2; and one of a round, version 3."""
    home = new_home(tmp_path_factory.mktemp("stored"), empty_mlflow)
    with at(home):
        train(small_plan("rounds=2"))
        train(small_plan("rounds=1"))
    return home


@pytest.fixture
def library(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    with at(trained):
        yield Library()


@pytest.mark.parametrize(
    ("uri", "version"),
    [("quickstart", "3"), ("quickstart/1", "1"), ("quickstart@candidate", "3"), ("quickstart@latest", "3")],
)
@pytest.mark.parametrize("scheme", ["", "models:/"])
def test_a_version_is_named_as_mlflow_names_it(library: Library, scheme: str, uri: str, version: str) -> None:
    assert library.resolve(scheme + uri) == ("quickstart", version)


@pytest.mark.parametrize("uri", ["quickstart@champion", "quickstart/4", "nobody", "nobody/1", "nobody@latest"])
def test_a_version_that_is_not_there_is_one_line(library: Library, uri: str) -> None:
    with pytest.raises(InputError, match=f"^{uri}: there is none; roundhouse models lists"), library.open(uri):
        pass


@pytest.mark.parametrize(
    "uri", ["", "Quick Start", "quickstart/latest", "quickstart/1/2", "runs:/abc/model", "a' OR '1"]
)
def test_what_names_no_version_is_refused_with_what_was_expected(library: Library, uri: str) -> None:
    with pytest.raises(InputError, match="expected NAME, NAME/7 or NAME@champion"):
        library.resolve(uri)


def test_an_alias_stands_for_a_version_or_for_none(library: Library) -> None:
    assert library.alias("quickstart", "candidate") == "3"
    assert library.alias("quickstart", "champion") is None
    assert library.alias("nobody", "champion") is None


def test_an_open_version_has_its_files_and_what_was_signed_until_it_is_closed(library: Library) -> None:
    with library.open("quickstart/2") as stored:
        assert str(stored) == "quickstart version 2"
        assert {"MLmodel", "data/model.keras", "round/record.json", "round/seal.json"} <= set(stored.files)
        assert stored.record(trusted_keys())["round"] == 2
        seal = stored.seal(trusted_keys())
        assert (seal["model"], seal["run_id"], seal["model_id"]) == ("quickstart", stored.run_id, stored.model_id)
        assert stored.has_weights
        assert digest(stored.params) == stored.tags["weights_sha256"]
    assert not stored.folder.exists()


def test_only_the_files_that_are_asked_for_are_fetched(library: Library) -> None:
    with library.open("quickstart/2", files="round") as stored:
        assert set(stored.files) == {"round/record.json", "round/seal.json", "round/state.safetensors"}


def test_a_signed_file_that_is_missing_is_as_bad_as_a_forged_one(library: Library) -> None:
    with library.open("quickstart/2", files="data") as stored:
        assert stored.signed("round/record.json") == b""
        with pytest.raises(ForgedError):
            stored.record(trusted_keys())


def test_the_versions_of_a_training_are_its_own(library: Library) -> None:
    runs = [library.client.get_model_version("quickstart", number).run_id for number in ("1", "2", "3")]
    assert library.of_run("quickstart", runs[0]) == {1: "1", 2: "2"}
    assert library.of_run("quickstart", runs[2]) == {1: "3"}
    assert library.of_run("quickstart", "nothing") == {}


def test_a_file_of_the_run_is_read(library: Library) -> None:
    run_id = library.client.get_model_version("quickstart", "1").run_id
    assert library.run_file(run_id, START) == run_file("1", START).read_bytes()
    assert library.run_file(run_id, "nothing.json") == b""
    assert library.run_file(run_id, "figures/nothing.png") == b""


def test_an_mlflow_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9"):
        Library()


def test_an_mlflow_that_fails_is_not_a_version_that_is_missing(trained: Path, tmp_path: Path) -> None:
    home = copied(trained, tmp_path)
    with at(home):
        library = Library()
        with database(home) as connection:
            connection.execute("DROP TABLE registered_model_aliases")
        with pytest.raises(TrackingError):
            library.resolve("quickstart@champion")
        with pytest.raises(TrackingError):
            library.alias("quickstart", "champion")
