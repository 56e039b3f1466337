"""What ends a process: SIGKILL, at the round or the time that was asked for, and a line in a diary before."""

from __future__ import annotations

import inspect
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DIARY = "CHAOS_DIARY"
"""The environment variable with the file in which a process says what happened to it."""


def note(**said: Any) -> None:
    """One line in the diary; it stays when the process dies."""
    path = os.environ.get(DIARY)
    if path:
        with Path(path).open("a", encoding="utf-8") as diary:
            diary.write(json.dumps(said) + "\n")


class Fuse:
    """Ends this process at ``number``: a round where calls tell their round, else the how-many-th call."""

    def __init__(self, point: str, number: int) -> None:
        self.point, self.number, self._calls = point, number, 0
        self.round: int | None = None

    def is_due(self, arguments: Mapping[str, Any]) -> bool:
        """Whether the call with these arguments is the one."""
        found = round_in(arguments)
        at = found if found is not None else self.round
        if at is None:
            self._calls += 1
            at = self._calls
        return at == self.number

    def blow(self) -> None:
        """The end."""
        note(killed=self.point, at=self.number)
        os.kill(os.getpid(), signal.SIGKILL)

    def light(self) -> None:
        """The end ``number`` tenths of a second from now, whatever happens then."""
        threading.Thread(target=lambda: (time.sleep(self.number / 10), self.blow()), daemon=True).start()


def bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, but for ``self``."""
    arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    arguments.pop("self", None)
    return arguments


def round_in(arguments: Mapping[str, Any]) -> int | None:
    """The round that a call is about: an argument of that name, an argument that has one, or a tag."""
    tags = arguments.get("tags")
    tagged = tags.get("round") if isinstance(tags, Mapping) else None
    known = [arguments.get("round"), *(getattr(value, "round", None) for value in arguments.values())]
    numbers = [value for value in known if isinstance(value, int)]
    return numbers[0] if numbers else None if tagged is None else int(tagged)
