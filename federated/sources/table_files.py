"""The files of a table: which are meant, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from glob import escape, glob
from pathlib import Path
from typing import NamedTuple

from federated.errors import DataError
from federated.variables import location

CLIENT = "{client}"
"""What stands in a path for the name of the client whose rows the file holds."""

_WILD = re.compile(r"(\{client\}|\*)")


class TableFile(NamedTuple):
    """A file with rows, of one client where its path says so."""

    path: Path
    client: str | None


def table_files(field: str, paths: Sequence[Path]) -> list[TableFile]:
    """The files that the paths mean, in the order of the paths, those of a pattern by name.

    ``*`` is any text within a name, ``{client}`` too, which is then the client's.

    Raises:
        DataError: no file fits a pattern.
        PlanError: the environment lacks a name in a path.
    """
    return [found for path in paths for found in _matching(field, location(field, path), path)]


def _matching(field: str, path: Path, written: Path) -> Iterator[TableFile]:
    parts = _WILD.split(str(path))
    if len(parts) == 1:
        yield TableFile(path, None)
        return
    found = sorted(glob("".join("*" if _WILD.fullmatch(part) else escape(part) for part in parts)))  # noqa: PTH207 - it may be absolute
    fitting = re.compile(_expression(parts))
    matches = [match for match in map(fitting.fullmatch, found) if match is not None]
    if not matches:
        raise DataError(f"{field}: no file fits {written}")
    for match in matches:
        yield TableFile(Path(match[0]), match.groupdict().get("client"))


def _expression(parts: list[str]) -> str:
    """The pattern as a regular expression; where the client stands twice, it is the same."""
    text = "".join("[^/]*" if part == "*" else part if part == CLIENT else re.escape(part) for part in parts)
    return text.replace(CLIENT, "(?P<client>[^/]+)", 1).replace(CLIENT, "(?P=client)")
