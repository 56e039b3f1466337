"""Results kept in files of one JSON object a line: what is there need not be computed again."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
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
    """When and with what some results were computed, in a line."""
    return "; ".join(sorted({record["made"] for record in records}))
