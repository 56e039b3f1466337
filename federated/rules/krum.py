"""Robust rules that trust the updates with the closest neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import Doubles, by_column, combination
from federated.rules.gram import gram, squared_pairwise
from federated.rules.order import middle, ordered
from federated.rules.rule import Rule
from federated.updates import Update

_DIGITS = 30  # binary ones of a score: what differs behind them is a tie


class _Scored(Rule):
    """Rules that trust the updates with the best of Krum's scores; ``byzantine`` is f of their papers."""

    byzantine: int = Field(ge=0, description="liars that it stands")

    @property
    def robust(self) -> bool:
        return self.byzantine > 0

    @property
    def equal(self) -> bool:
        return True


class Krum(_Scored):
    """The update whose N - f - 2 nearest neighbours are nearest (Blanchard et al. 2017, section 4).

    Weights count nothing. The score is the sum of squared distances, which come from the Gram matrix in float64.
    Guarantees: with at most f = ``byzantine`` liars and N >= 2f + 3, the result is one client's update, as close to the
    honest ones as an honest one. One update is noisier than a mean; where
    clients' data differ much, take ``multi_krum``.

    ===================  ==========================
    updates              result
    ===================  ==========================
    tie                  the first by the clients' names
    all equal            that update
    fewer than 2f + 3    refused
    ===================  ==========================
    """

    kind: Literal["krum"] = "krum"

    @property
    def least(self) -> int:
        return 2 * self.byzantine + 3

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, f"krum with byzantine={self.byzantine}", updates))
        best = _by_score(squared_pairwise(gram(rows)), self.byzantine)[0]
        return Step(state, rows[best].astype(np.float32), {})


class MultiKrum(_Scored):
    """The mean of the ``keep`` updates with the best Krum scores (Blanchard et al. 2017, section 5).

    Weights count nothing. ``keep: null`` is all but f = ``byzantine``, and more cannot be kept.
    Guarantees, ties and edge cases are Krum's; a liar that hides among the honest may be among the kept.
    """

    kind: Literal["multi_krum"] = "multi_krum"
    keep: int | None = Field(default=None, ge=1, description="updates that are averaged; null: all but byzantine")

    @property
    def least(self) -> int:
        return max(2 * self.byzantine + 3, (self.keep or 0) + self.byzantine)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self._described, updates))
        kept = self.keep or len(rows) - self.byzantine
        best = _by_score(squared_pairwise(gram(rows)), self.byzantine)[:kept]
        coefficients = np.zeros(len(rows))
        coefficients[best] = 1 / kept
        return Step(state, combination(rows, coefficients), {"kept": float(kept)})

    @property
    def _described(self) -> str:
        keep = "" if self.keep is None else f" and keep={self.keep}"
        return f"multi_krum with byzantine={self.byzantine}{keep}"


class Bulyan(_Scored):
    """A trimmed mean around the median of updates that Krum chose one by one (El Mhamdi et al. 2018, algorithm 2).

    Krum chooses θ = N - 2f of the updates, each among those that are left; every coordinate is the mean of its θ - 2f
    values nearest to their median. Weights count nothing. Guarantees: with at most f = ``byzantine`` liars and
    N >= 4f + 3, every coordinate is near an honest one's, so that no liar hides a large error in one coordinate. Of two
    values as near to the median the smaller counts; Krum's ties go by the clients' names.
    """

    kind: Literal["bulyan"] = "bulyan"

    @property
    def least(self) -> int:
        return 4 * self.byzantine + 3

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, f"bulyan with byzantine={self.byzantine}", updates))
        chosen = [rows[place] for place in self._chosen(squared_pairwise(gram(rows)))]
        every = (range(len(chosen)),)
        return Step(state, by_column(chosen, lambda block: self._around_the_median(ordered(block, every))), {})

    def _chosen(self, squared: Doubles) -> list[int]:
        left = np.arange(len(squared))
        chosen = list[int]()
        for _ in range(len(squared) - 2 * self.byzantine):
            best = _by_score(squared[np.ix_(left, left)], self.byzantine)[0]
            chosen.append(int(left[best]))
            left = np.delete(left, best)
        return sorted(chosen)

    def _around_the_median(self, rows: Sequence[Vector]) -> Doubles:
        """The mean of a window of sorted rows, which moves up as long as what enters is nearer than what leaves."""
        drop, count = 2 * self.byzantine, len(rows) - 2 * self.byzantine
        centre = middle(rows).astype(np.float64)  # no difference overflows
        total = np.zeros(centre.size)
        for row in rows[:count]:
            total += row
        for leaving, entering in zip(rows[:drop], rows[count:], strict=True):
            nearer = entering - centre < centre - leaving
            total += np.where(nearer, (entering - centre) - (leaving - centre), 0.0)
        return np.asarray(total / count)


def _by_score(squared: Doubles, byzantine: int) -> NDArray[np.intp]:
    """The rows from the best score to the worst; equal ones stay in order."""
    rows = len(squared)
    others = np.sort(squared + np.diag(np.full(rows, np.inf)), axis=1)  # each row's own is last
    neighbours = min(max(rows - byzantine - 2, 1), rows - 1)
    mantissas, exponents = np.frexp(others[:, :neighbours].sum(axis=1))
    scores = np.ldexp(np.round(np.ldexp(mantissas, _DIGITS)), exponents)
    return np.argsort(scores, kind="stable")
