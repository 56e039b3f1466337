"""How measurements are written down."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence

_PACKAGES = ("prefect", "mlflow", "tensorflow", "keras", "numpy")


class Table:
    """A table in Markdown."""

    def __init__(self, title: str, heading: Sequence[str]) -> None:
        self._title, self._lines = title, [list(heading), ["---"] * len(heading)]

    def add(self, *cells: str) -> None:
        """One more line."""
        self._lines.append(list(cells))

    def __str__(self) -> str:
        return "\n".join([f"## {self._title}", "", *(f"| {' | '.join(line)} |" for line in self._lines), ""])


def machine() -> str:
    """Where, when and with what it was measured."""
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _PACKAGES)
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}\n"
