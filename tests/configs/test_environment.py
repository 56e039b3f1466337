"""Where things are kept, by what the environment says."""

import os
from pathlib import Path

import pytest

from configs import environment


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*environment.QUIET, "ROUNDHOUSE_HOME", "ROUNDHOUSE_WORKERS", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "set, so that whatever a test does to it is undone")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_everything_is_kept_in_the_current_folder(tmp_path: Path):
    home = tmp_path / ".roundhouse"
    assert environment.home() == home
    assert environment.log_file().parent.parent == home
    assert environment.prefect_home().parent == home
    assert environment.tracking_uri() == f"sqlite:///{home}/mlflow.db"
    assert environment.artifact_root() == (home / "artifacts").as_uri()


def test_looking_up_where_things_are_makes_no_folder(tmp_path: Path):
    environment.home(), environment.log_file(), environment.tracking_uri(), environment.artifact_root()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["elsewhere", "./elsewhere"])
def test_home_may_be_elsewhere_and_is_absolute(given, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("ROUNDHOUSE_HOME", given)
    assert environment.home() == tmp_path / "elsewhere"
    assert str(tmp_path / "elsewhere") in environment.tracking_uri()


def test_a_tracking_server_decides_where_artifacts_are(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert environment.tracking_uri() == "http://mlflow:5000"
    assert environment.artifact_root() is None


def test_libraries_are_quiet_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    environment.quieten()
    found = {name: os.environ[name] for name in environment.QUIET}
    assert found == environment.QUIET | {"TF_CPP_MIN_LOG_LEVEL": "0"}
    assert environment.QUIET["TF_CPP_MIN_LOG_LEVEL"] != "0"


def test_as_many_clients_train_side_by_side_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("ROUNDHOUSE_WORKERS", "3")
    assert environment.workers() == 3


def test_otherwise_one_client_a_core_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert environment.workers() == 3
