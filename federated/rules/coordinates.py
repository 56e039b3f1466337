"""Robust rules that look at each coordinate by itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import by_column
from federated.rules.order import middle, middle_ranks, ordered
from federated.rules.rule import Rule
from federated.updates import Update


class Median(Rule):
    """Each coordinate's median over the clients (Yin et al. 2018, definition 1). Weights count nothing.

    Guarantees: with fewer than half of the clients lying, every coordinate lies among those of the honest ones. Holds
    the cohort's updates, and a few blocks of columns besides.

    ===================  ==========================
    updates              result
    ===================  ==========================
    one                  itself
    an even number       half way between the two in the middle
    half of them lie     what the liars want
    ===================  ==========================
    """

    kind: Literal["median"] = "median"

    @property
    def robust(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self.kind, updates))
        ranks = (middle_ranks(len(rows)),)
        return Step(state, by_column(rows, lambda block: middle(ordered(block, ranks))), {})


class TrimmedMean(Rule):
    """Each coordinate's mean without the ⌊``trim`` · N⌋ smallest and as many largest (Yin et al. 2018, definition 2).

    Weights count nothing. Guarantees: with at most ⌊``trim`` · N⌋ of the clients lying, every coordinate lies among
    those of the honest ones. Where ``trim`` · N is below 1, nothing is cut and nothing is guaranteed: the metric
    ``trimmed`` says how many of the N values were cut. Holds the cohort's updates, and a few blocks besides.
    """

    kind: Literal["trimmed_mean"] = "trimmed_mean"
    trim: float = Field(default=0.2, ge=0, lt=0.5, description="share of the clients cut at each end")

    @property
    def equal(self) -> bool:
        return True

    @property
    def robust(self) -> bool:
        return self.trim > 0

    @property
    def cuts_from(self) -> int:
        """The fewest updates of which it cuts one at each end; ``trim`` is above 0."""
        return max(math.ceil(1 / (self.trim * (1 + 1e-9))), 3)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self.kind, updates))
        cut, clients = self._cut(len(rows)), len(rows)
        ends = (range(cut), range(clients - cut, clients))

        def kept(block: list[Vector]) -> NDArray[np.floating]:
            total = np.zeros(block[0].size)
            for row in ordered(block, ends)[cut : clients - cut]:
                total += row
            return np.asarray(total / (clients - 2 * cut))

        return Step(state, by_column(rows, kept), {"trimmed": float(2 * cut)})

    def _cut(self, clients: int) -> int:
        """How many are cut at each end; 0.29 of 100 are 29, and one is left."""
        return min(int(self.trim * clients * (1 + 1e-9)), (clients - 1) // 2)
