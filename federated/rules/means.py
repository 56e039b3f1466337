"""Rules that are sums: one vector of memory, however many clients there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import numpy as np

from federated.component import Step, Vector
from federated.rules.rule import Rule
from federated.updates import Update


def _weighted_sum(updates: Iterable[Update], weight: Callable[[Update], float]) -> tuple[Vector | None, float]:
    """Σ wᵢδᵢ and Σ wᵢ, in one pass and two vectors of memory; None where there is no update."""
    total: Vector | None = None
    weights = 0.0
    for update in updates:
        term = update.delta * np.float32(weight(update))
        total = term if total is None else np.add(total, term, out=total)
        weights += weight(update)
    return total, weights


class Mean(Rule):
    """Σδ / N: every client counts the same, whatever its size. The textbook's federated averaging."""

    kind: Literal["mean"] = "mean"

    @property
    def additive(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        total, count = _weighted_sum(updates, lambda update: 1.0)
        if total is None:
            raise ValueError("mean needs at least 1 update, got 0")
        return Step(state, total / np.float32(count), {})


class WeightedMean(Rule):
    """Σnδ / Σn: clients count by their number of training examples (McMahan et al. 2017, FedAvg)."""

    kind: Literal["weighted_mean"] = "weighted_mean"

    @property
    def additive(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        total, weights = _weighted_sum(updates, lambda update: update.weight)
        if total is None:
            raise ValueError("weighted_mean needs at least 1 update, got 0")
        if not weights > 0:
            raise ValueError(f"weighted_mean needs a positive total weight, got {weights}")
        return Step(state, total / np.float32(weights), {})


class FedNova(Rule):
    """τ Σpᵢδᵢ/τᵢ with pᵢ = nᵢ/Σn and τ = Σpᵢτᵢ: clients that take more steps do not pull harder.

    τᵢ is an update's ``local_steps``. A weighted mean ends where no client's objective nor their mean is least (Wang et
    al. 2020, equation 13). Where all take as many steps, this is the weighted mean.
    """

    kind: Literal["fednova"] = "fednova"

    @property
    def additive(self) -> bool:
        return True

    @property
    def averages(self) -> bool:
        return False

    @property
    def normalises_steps(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        counted = worked = 0.0

        def seen() -> Iterator[Update]:
            nonlocal counted, worked
            for update in updates:
                counted += update.weight
                worked += update.weight * update.local_steps
                yield update

        total, _ = _weighted_sum(seen(), lambda update: update.weight / update.local_steps)
        if total is None:
            raise ValueError("fednova needs at least 1 update, got 0")
        if not counted > 0:
            raise ValueError(f"fednova needs a positive total weight, got {counted}")
        return Step(state, total * np.float32(worked / counted**2), {"effective_steps": worked / counted})
