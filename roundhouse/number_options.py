"""Numbers as they are typed after an option: what each may be, and one line where it is something else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from federated.errors import InputError


class Wanted(NamedTuple):
    """The finite numbers for which it ``holds``; ``said`` is the same in words. ``read`` makes one of a text."""

    said: str
    holds: Callable[[float], bool]
    read: Callable[[str], float] = float


ABOVE_ZERO = Wanted("a number above 0", lambda found: found > 0)


def number(option: str, text: str, wanted: Wanted) -> float:
    """What was typed after an option.

    Raises:
        InputError: it is no such number.
    """
    try:
        found = wanted.read(text)
    except ValueError:
        found = math.nan
    if not (wanted.holds(found) and math.isfinite(found)):
        raise InputError(f"{option}: expected {wanted.said}, got {text}")
    return found
