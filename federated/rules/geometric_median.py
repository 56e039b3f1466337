"""The robust rule that looks for the point with the least way to all updates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from pydantic import Field

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import Doubles, combination
from federated.rules.gram import gram, squared_pairwise
from federated.rules.rule import Rule
from federated.updates import Update


class GeometricMedian(Rule):
    """The point z that minimises Σ|xᵢ - z|, by the smoothed Weiszfeld algorithm.

    Pillutla et al. 2022 (RFA), algorithm 2. Every step is a weighted mean with weights
    1 / max(``smoothing``, |xᵢ - z|), until it moves z by less than ``tolerance`` times the median distance, or
    ``iterations`` are done. It begins amid most of the updates: from the mean of all, which liars may have brought
    anywhere, the way back would take too many steps. Every z is a combination of the updates, so distances follow from
    their Gram matrix, and the updates are read twice in all. The paper counts clients by their examples; here weights
    count nothing, because a liar would choose its own.

    Guarantees: with a share a < 1/2 of the clients lying, z is no farther from the honest mean than
    2(1 - a) / (1 - 2a) times the honest updates' largest distance from it.
    """

    kind: Literal["geometric_median"] = "geometric_median"
    smoothing: float = Field(default=1e-6, gt=0, description="smallest distance that a weight divides by")
    iterations: int = Field(default=100, ge=1, description="at most so many")
    tolerance: float = Field(default=1e-6, ge=0, description="share of the median distance that ends it")

    @property
    def robust(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self.kind, updates))
        coefficients, steps = self._weiszfeld(gram(rows))
        return Step(state, combination(rows, coefficients), {"weiszfeld_steps": float(steps)})

    def _weiszfeld(self, inner: Doubles) -> tuple[Doubles, int]:
        """The point's coefficients, which sum to 1, and how many steps it took to find them."""
        point = _amid_most(inner)
        for step in range(1, self.iterations + 1):
            away = np.maximum(_distances(inner, point), self.smoothing)
            before, point = point, (1 / away) / np.sum(1 / away)
            moved = _norm(inner, point - before)
            if moved <= self.tolerance * np.median(away):  # a liar's distance must not end it early
                return point, step
        return point, self.iterations


def _amid_most(inner: Doubles) -> Doubles:
    """The mean of the smallest majority around an update, as coefficients: no minority of liars moves it far."""
    squared = squared_pairwise(inner)
    most = len(inner) // 2 + 1
    centre = np.argmin(np.sort(squared, axis=1)[:, most - 1])
    coefficients = np.zeros(len(inner))
    coefficients[np.argsort(squared[centre], kind="stable")[:most]] = 1 / most
    return coefficients


def _distances(inner: Doubles, coefficients: Doubles) -> Doubles:
    """|xᵢ - z| for z = Σ cᵢxᵢ, shape (rows,)."""
    along = _times(inner, coefficients)
    squared = np.diag(inner) - 2 * along + np.sum(coefficients * along)
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)))


def _norm(inner: Doubles, coefficients: Doubles) -> float:
    """|Σ cᵢxᵢ|."""
    return float(np.sqrt(max(float(np.sum(coefficients * _times(inner, coefficients))), 0.0)))


def _times(inner: Doubles, coefficients: Doubles) -> Doubles:
    """A matrix times a vector, in one thread: for so few numbers several would wait for one another."""
    return np.asarray(np.einsum("ij,j->i", inner, coefficients))
