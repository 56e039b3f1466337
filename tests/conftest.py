"""What tests share: a real Prefect API, and a home of their own for MLflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs import environment

environment.quieten()

_HERE = Path(__file__).parent
_OUTSIDE = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "ROUNDHOUSE_HOME", "ROUNDHOUSE_WORKERS")
for _name in _OUTSIDE:
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for commands and servers comes first: no process is left alone with it at the end."""
    items.sort(
        key=lambda item: not {"roundhouse", "chaos", "production"} & {*item.path.parent.relative_to(_HERE).parts}
    )


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """Prefect's own test server, one for all tests, with an empty database."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with (
        prefect_test_harness(server_startup_timeout=120),
        # A synchronous flow waits up to a second for its heartbeat to end.
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        yield


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables made, to copy: making them takes seconds."""
    from mlflow.store.db.utils import _safe_initialize_tables, create_sqlalchemy_engine_with_retry

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    engine = create_sqlalchemy_engine_with_retry(f"sqlite:///{path}")
    _safe_initialize_tables(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def empty_prefect(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect database with its tables made, to copy."""
    folder = tmp_path_factory.mktemp("prefect")
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    subprocess.run(command, env={**os.environ, "PREFECT_HOME": str(folder)}, check=True, capture_output=True)
    return folder / "prefect.db"


@pytest.fixture
def warm_home(home: Path, empty_prefect: Path) -> Path:
    """A ``ROUNDHOUSE_HOME`` as a first training would have left it, but for the training."""
    (home / "prefect").mkdir()
    shutil.copy(empty_prefect, home / "prefect" / "prefect.db")
    return home


@pytest.fixture
def home(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``ROUNDHOUSE_HOME`` with nothing in it."""
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(folder))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # MLflow sets them for itself
        monkeypatch.delenv(name, raising=False)
    return folder
