"""What the databases and the files of a home hold of one training, read without the product's help."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.attempts import PLAN, Training

_READY = 2  # MLflow's number for a logged model that is whole


class Point(NamedTuple):
    """A number in MLflow."""

    name: str
    step: int
    value: float


class Version(NamedTuple):
    """A registered version."""

    number: int
    model_id: str
    tags: Mapping[str, str]

    @property
    def round(self) -> int:
        """Which round's model it is."""
        return int(self.tags["round"])


class Books(NamedTuple):
    """Everything that MLflow knows of a training."""

    runs: list[tuple[str, str, bool]]
    params: dict[str, str]
    points: list[Point]
    versions: list[Version]
    models: list[tuple[int, bool]]

    @property
    def duplicates(self) -> list[str]:
        """What is there more than once."""
        counted = {
            "run": Counter(PLAN for _ in self.runs),
            "metric": Counter((point.name, point.step) for point in self.points),
            "version of round": Counter(version.round for version in self.versions),
            "logged model of round": Counter(number for number, _ in self.models),
        }
        return [
            f"{what} {which} is there {count} times"
            for what, counts in counted.items()
            for which, count in counts.items()
            if count > 1
        ]


def read(training: Training) -> Books:
    """The books of MLflow."""
    database = training.home / "mlflow.db"
    runs = rows(
        database,
        "select r.run_uuid, r.status, r.end_time is not null from runs r join tags t using (run_uuid) "
        "where t.key = 'run_key' and t.value = ?",
        training.key,
    )
    ids = [run[0] for run in runs]
    params = {name: value for run in ids for name, value in rows(database, _PARAMS, run)}
    points = [Point(*found) for run in ids for found in rows(database, _POINTS, run)]
    versions = [version for run in ids for version in _versions(database, run)]
    models = [(int(number), status == _READY) for number, status in rows(database, _MODELS, training.key)]
    return Books([(run, status, bool(ended)) for run, status, ended in runs], params, points, versions, models)


def rows(database: Path, query: str, *values: str) -> list[tuple[Any, ...]]:
    """What a SQLite file answers; nothing where there is none yet."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=rw", timeout=30, uri=True)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "unable to open" in str(error) or "no such table" in str(error):
            return []
        raise


def alive_in_prefect(training: Training) -> list[str]:
    """Flow runs and task runs that seem to be under way."""
    database = training.home / "prefect" / "prefect.db"
    flows = rows(database, _FLOWS_ALIVE, training.key)
    tasks = rows(database, _TASKS_ALIVE, training.key)
    return [f"flow run {name} {state}: {run}" for name, state, run in flows] + [
        f"task run {name} {state}: of flow run {run}" for name, state, run in tasks
    ]


def weights_by_round(training: Training) -> dict[int, str]:
    """The digests in the records on disk."""
    read = (json.loads(path.read_text())["said"] for path in (training.folder / "records").glob("0*.json"))
    return {record["round"]: record["weights_sha256"] for record in read}


_ALIVE = "state_type in ('RUNNING', 'PENDING', 'CANCELLING') and json_extract(f.parameters, '$.run_key') = ?"
_FLOWS_ALIVE = f"select f.name, f.state_type, f.id from flow_run f where f.{_ALIVE}"
_TASKS_ALIVE = (
    f"select t.name, t.state_type, f.id from task_run t join flow_run f on f.id = t.flow_run_id where t.{_ALIVE}"
)
_PARAMS = "select key, value from params where run_uuid = ?"
_POINTS = "select key, step, value from metrics where run_uuid = ? order by key, step"
_MODELS = (
    "select r.tag_value, m.status from logged_models m join logged_model_tags r using (model_id) "
    "join logged_model_tags k using (model_id) where r.tag_key = 'round' and k.tag_key = 'run_key' and k.tag_value = ?"
)


def _versions(database: Path, run: str) -> list[Version]:
    found = rows(database, "select version, source from model_versions where run_id = ? and name = ?", run, PLAN)
    tags = "select key, value from model_version_tags where version = ? and name = ?"
    return [
        Version(number, source.rpartition("/")[2], dict(rows(database, tags, str(number), PLAN)))
        for number, source in sorted(found)
    ]
