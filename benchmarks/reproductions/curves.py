"""Learning curves, and how the FedAvg paper counts rounds on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Curve(NamedTuple):
    """Accuracies before round 1 and after each round; ``diverged`` where the next round could not be finished."""

    accuracies: tuple[float, ...]
    diverged: bool = False

    @property
    def rounds(self) -> int:
        """How many rounds it has."""
        return len(self.accuracies) - 1


def rounds_to(target: float, accuracies: Sequence[float]) -> float | None:
    """Rounds until a curve crosses ``target``; None where it never does.

    The curve is made to rise: every point is the best up to it. Between points it is a straight line (McMahan et al.
    2017, section 3).
    """
    best = np.maximum.accumulate(accuracies)
    after = int(np.searchsorted(best, target))  # the first point that is no lower
    if after == len(best):
        return None
    if after == 0:
        return 0.0
    below, above = float(best[after - 1]), float(best[after])
    return after - 1 + (target - below) / (above - below)
