"""The search for the best learning rate of a setting, on the FedAvg paper's grid of ∛10.

It walks: from where it starts to the better neighbour, until both neighbours of the best are tried and are worse, so
that the best stands in the middle of what was tried, as the paper demands. No rate runs longer than the best so far
has needed: it could not win any more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from benchmarks.reproductions.curves import Curve, rounds_to


class Wanted(NamedTuple):
    """The next run: which place of the grid, and for so many rounds at most."""

    place: int
    limit: int


def rate(place: int) -> float:
    """The learning rate at a place of the grid: 10^(place / 3), to three digits."""
    return float(f"{10 ** (place / 3):.3g}")


def place_of(rate: float) -> int:
    """Where on the grid a learning rate stands."""
    return round(3 * math.log10(rate))


def best(target: float, tried: Mapping[int, Curve]) -> int:
    """The place whose curve crosses ``target`` first, or, where none does, that comes closest to it."""
    return min(sorted(tried), key=lambda place: _badness(target, tried[place]))


def next_run(target: float, tried: Mapping[int, Curve], start: int, most: int) -> Wanted | None:
    """What is still to be run, with curves of at most ``most`` rounds; None where nothing is."""
    limit = _limit(target, tried, most)
    enough = {place: curve for place, curve in tried.items() if _is_enough(target, curve, limit)}
    if start not in enough:
        return Wanted(start, limit)
    middle = best(target, enough)
    missing = [place for place in (middle - 1, middle + 1) if place not in enough]
    return Wanted(missing[0], limit) if missing else None


def _limit(target: float, tried: Mapping[int, Curve], most: int) -> int:
    needed = [rounds_to(target, curve.accuracies) for curve in tried.values()]
    return min([most, *(math.ceil(rounds) for rounds in needed if rounds is not None)])


def _is_enough(target: float, curve: Curve, limit: int) -> bool:
    """Whether a longer curve would say no more."""
    return curve.diverged or curve.rounds >= limit or rounds_to(target, curve.accuracies) is not None


def _badness(target: float, curve: Curve) -> tuple[float, float]:
    rounds = rounds_to(target, curve.accuracies)
    return (math.inf if rounds is None else rounds, -max(curve.accuracies))
