"""MLflow's database of embedded runs."""

from __future__ import annotations

from pathlib import Path

from configs import environment


def prepare() -> None:
    """Makes it where it is not there, whole or not at all: MLflow neither uses nor mends one that is half made.

    For a caller that holds the lock ``mlflow``.
    """
    database = environment.embedded_database()
    if not database.exists():
        _made(database.with_name(f"{database.name}.new")).replace(database)
    environment.write_ahead()


def _made(path: Path) -> Path:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for left in (path, path.with_name(f"{path.name}-journal")):  # by a process that was killed
        left.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{path}", str(environment.artifact_root()))
    store.engine.dispose()
    return path
