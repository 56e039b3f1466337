"""How measurements are written down."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    today = datetime.datetime.now(tz=datetime.UTC).date()
    where = f"{os.cpu_count()} cores of {_processor()}, {memory:.0f} GiB"
    return f"{today}, {where}, Python {platform.python_version()}, {versions}\n"


def _processor() -> str:
    """Its name, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
