"""Results kept in files of one JSON object a line: what is there need not be computed again.

What is not finished is kept beside them, in a folder that is nobody's but this machine's.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from federated.component import Vector

FOLDER = Path(__file__).parent
UNFINISHED = FOLDER.parent / ".cache"
_PACKAGES = ("tensorflow", "keras", "numpy")

Record = dict[str, Any]
"""A result with the settings and the plan that it is of."""


def read(path: Path) -> list[Record]:
    """The records in a file; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, records: Iterable[Record]) -> None:
    """Puts records in place of those that were there, whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")
    draft.replace(path)


def made() -> str:
    """When and with what a result is computed."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    return f"{datetime.datetime.now(tz=datetime.UTC).date()}, {versions}"


def makings(records: Iterable[Record]) -> str:
    """When and with what some results were computed: the first and the last day of each set of versions."""
    days: dict[str, set[str]] = {}
    for record in records:
        day, versions = record["made"].split(", ", 1)
        days.setdefault(versions, set()).add(day)
    return "; ".join(f"{' to '.join(sorted({min(some), max(some)}))}, {versions}" for versions, some in days.items())


def put_aside(digest: str, right: list[int], params: Vector) -> None:
    """Keeps what a training of a plan has come to, for the next command to go on from."""
    UNFINISHED.mkdir(exist_ok=True)
    draft = _aside(digest).with_suffix(".draft.npz")
    np.savez(draft, right=right, params=params)
    draft.replace(_aside(digest))


def taken_up(digest: str) -> tuple[list[int], Vector | None]:
    """What was put aside: the test rows that were right after each round, and the model after the last of them."""
    if not _aside(digest).is_file():
        return [], None
    with np.load(_aside(digest)) as found:
        return found["right"].tolist(), found["params"]


def finish(digest: str) -> None:
    """Throws away what was put aside."""
    _aside(digest).unlink(missing_ok=True)


def _aside(digest: str) -> Path:
    return UNFINISHED / f"{digest}.npz"
