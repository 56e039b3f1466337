"""Robust rules that let no update move the result by more than a bound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from pydantic import Field

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import Doubles, combination, squared_distances
from federated.rules.rule import Rule
from federated.updates import Update


class NormBoundedMean(Rule):
    """The mean of updates scaled down to a norm of at most ``bound`` (Sun et al. 2019, section 5).

    Weights count nothing. ``bound: null`` is the median of the cohort's norms. Guarantees: f liars among N
    move the result by at most 2f/N · ``bound``; with the median, fewer than half of the clients cannot raise the bound
    above the honest norms. A liar whose update is no larger than the others' goes unnoticed.
    """

    kind: Literal["norm_bounded_mean"] = "norm_bounded_mean"
    bound: float | None = Field(default=None, gt=0, description="largest norm; null: the median of the cohort's")

    @property
    def averages(self) -> bool:
        return False

    @property
    def robust(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self.kind, updates))
        norms = np.sqrt(squared_distances(rows))
        bound = float(np.median(norms)) if self.bound is None else self.bound
        metrics = {"norm_bound": bound, "norms_bounded": float(np.sum(norms > bound))}
        return Step(state, combination(rows, _scales(norms, bound) / len(rows)), metrics)


class CenteredClip(Rule):
    """Moves from the last aggregate v to v + Σ(xᵢ - v) · min(1, ``radius`` / |xᵢ - v|) / N, ``iterations`` times over.

    Karimireddy et al. 2021, algorithm 2. The first v is zero; the state is the last aggregate. Weights count nothing.
    Guarantees: f liars among N move the result by at most 2f/N · ``radius`` in each iteration. With a ``radius`` small
    beside the updates, the result needs rounds to get to where they are.
    """

    kind: Literal["centered_clip"] = "centered_clip"
    radius: float = Field(gt=0, description="farthest from the last aggregate that an update counts in full")
    iterations: int = Field(default=1, ge=1)

    @property
    def averages(self) -> bool:
        return False

    @property
    def robust(self) -> bool:
        return True

    def init(self, size: int) -> Vector:
        return np.zeros(size, np.float32)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows, centre = deltas(gathered(self, self.kind, updates)), np.asarray(state, np.float32)
        far = 0
        for _ in range(self.iterations):
            distances = np.sqrt(squared_distances(rows, centre))
            scales = _scales(distances, self.radius) / len(rows)
            centre = combination([*rows, centre], np.append(scales, 1 - scales.sum()))
            far = int(np.sum(distances > self.radius))
        return Step(centre, centre.copy(), {"beyond_radius": float(far)})


def _scales(lengths: Doubles, bound: float) -> Doubles:
    """min(1, bound / length); 1 for what has no length."""
    return bound / np.maximum(lengths, bound) if bound > 0 else (lengths == 0).astype(np.float64)
