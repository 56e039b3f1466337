"""How files of a round are called: ``000007-SHA256.ending``."""

from __future__ import annotations

import re

from tasks.store import Store

_NAME = re.compile(r"\d{6,}-[0-9a-f]{64}\.")


def stem(round: int) -> str:
    """How the name of a round's file begins."""
    return f"{round:06d}"


def round_of(name: str) -> int:
    """The round of a file."""
    return int(name.partition("-")[0])


def own_names(store: Store, folder: str) -> list[str]:
    """The files of rounds in a folder, but for those of somebody else.

    Raises:
        TrackingError: the store cannot be reached.
    """
    return [name for name in store.names(folder) if _NAME.match(name)]
