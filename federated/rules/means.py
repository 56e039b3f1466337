"""Rules that are sums: one vector of memory, however many clients there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Step, Vector
from federated.errors import DataError
from federated.rules.rule import Rule
from federated.updates import Update

_CHUNK = 262_144  # entries, 1 MiB: so many stay in a core's cache between being scaled and being added to
_SLIGHT = 2.0**-20  # of the largest weight: a sum in such small units could overflow

EXAMPLES = "examples"
"""What clients are weighed by unless a plan says otherwise: their number of training examples."""


def _sum(updates: Iterable[Update]) -> tuple[Vector | None, int]:
    """Σδᵢ and how many there are, in one pass and one vector of memory; None where there is no update."""
    total: Vector | None = None
    count = 0
    for update in updates:
        total = update.delta.astype(np.float32) if total is None else np.add(total, update.delta, out=total)
        count += 1
    return total, count


class _Weighted(NamedTuple):
    """Σ wᵢδᵢ, which is ``total`` times ``unit``, and Σ wᵢ."""

    total: Vector
    unit: float
    weights: float


def _weighted_sum(updates: Iterable[Update], weight: Callable[[Update], float]) -> _Weighted | None:
    """In one pass and one vector of memory; None where there is no update.

    The unit is the last weight: to scale the sum in place and add an update as it is takes less than a product apart,
    and nothing where weights are the same.
    """
    total: Vector | None = None
    unit = largest = weights = 0.0
    for update in updates:
        own = weight(update)
        if total is None:
            total, unit = update.delta.astype(np.float32), own
        elif own < _SLIGHT * largest:
            total += update.delta * np.float32(own / unit)
        elif own > 0:
            _scale_and_add(total, unit / own, update.delta)
            unit = own
        largest, weights = max(largest, own), weights + own
    return None if total is None else _Weighted(total, unit, weights)


def _scale_and_add(total: Vector, scale: float, delta: Vector) -> None:
    """``total`` = ``scale`` · ``total`` + ``delta``, chunk by chunk."""
    if scale == 1:
        np.add(total, delta, out=total)
        return
    for start in range(0, total.size, _CHUNK):
        chunk = total[start : start + _CHUNK]
        chunk *= np.float32(scale)
        chunk += delta[start : start + _CHUNK]


def _add(total: NDArray[np.float64], delta: NDArray[Any], weight: float) -> None:
    """``total`` += ``weight`` · ``delta``, chunk by chunk."""
    if weight == 1:
        np.add(total, delta, out=total)
        return
    for start in range(0, total.size, _CHUNK):
        total[start : start + _CHUNK] += delta[start : start + _CHUNK] * np.float64(weight)


class Mean(Rule):
    """Σδ / N: every client counts the same, whatever its size. The textbook's federated averaging."""

    kind: Literal["mean"] = "mean"

    @property
    def additive(self) -> bool:
        return True

    @property
    def equal(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        total, count = _sum(updates)
        if total is None:
            raise ValueError("mean needs at least 1 update, got 0")
        return Step(state, np.divide(total, np.float32(count), out=total), {})


class FixedMean(Rule):
    """Σwδ / ``expected``, whoever takes part: what one client counts does not depend on others, as noise needs it.

    A client weighs 1; with ``cap``, its training examples over ``cap``, but no more than 1. ``expected`` is the weight
    that a cohort has on average (McMahan et al. 2018, equation 1). Without any update the aggregate is zero.

    The aggregate is float64. In a sum of float32 what one client adds can turn how those after it are rounded, and so
    count several times its norm (Casacuberta et al. 2022). Here, of n updates of norm 1 at most, one moves the sum by
    no more than 1 + n² 2⁻⁵², which is 1.0002 of a million.
    """

    kind: Literal["fixed_mean"] = "fixed_mean"
    expected: float = Field(gt=0, description="weight of a cohort on average; without cap, its number of clients")
    cap: int | None = Field(default=None, ge=1, description="training examples from which on a client weighs 1")

    @property
    def additive(self) -> bool:
        return True

    @property
    def averages(self) -> bool:
        return False

    @property
    def equal(self) -> bool:
        return self.cap is None

    @property
    def least(self) -> int:
        return 0

    @property
    def share(self) -> float | None:
        return 1.0 / self.expected

    def weigh(self, client: str, card: Mapping[str, str | float], examples: int) -> float:
        return 1.0 if self.cap is None else min(examples / self.cap, 1.0)

    def init(self, size: int) -> Any:
        return size

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        total = np.zeros(state)
        for update in updates:
            _add(total, update.delta, min(max(update.weight, 0.0), 1.0))
        return Step(state, np.divide(total, self.expected, out=total), {})


class WeightedMean(Rule):
    """Σwδ / Σw: clients count by their number of training examples (McMahan et al. 2017, FedAvg), or as a plan says.

    ``by`` names a number on the clients' cards in its place. A client among ``weights`` counts what is given there,
    whatever its card says; the others go by ``by``.
    """

    kind: Literal["weighted_mean"] = "weighted_mean"
    by: str = Field(default=EXAMPLES, min_length=1, description="examples, or a number on the clients' cards")
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict, description="by client")

    @property
    def additive(self) -> bool:
        return True

    @property
    def named(self) -> frozenset[str]:
        return frozenset(self.weights)

    def weigh(self, client: str, card: Mapping[str, str | float], examples: int) -> float:
        if client in self.weights:
            return self.weights[client]
        return float(examples) if self.by == EXAMPLES else self._on_card(client, card)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        found = _weighted_sum(updates, lambda update: update.weight)
        if found is None:
            raise ValueError("weighted_mean needs at least 1 update, got 0")
        if not found.weights > 0:
            raise ValueError(f"weighted_mean needs a positive total weight, got {found.weights}")
        return Step(state, np.multiply(found.total, np.float32(found.unit / found.weights), out=found.total), {})

    def _on_card(self, client: str, card: Mapping[str, str | float]) -> float:
        found = card.get(self.by)
        if isinstance(found, str | None) or not 0 <= found < math.inf:
            raise DataError(
                f"algorithm.rule.weighted_mean.by: expected a number of at least 0 called {self.by!r} on the card of "
                f"client {client}, got {found!r}; add it, or name the client in algorithm.rule.weights"
            )
        return float(found)


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

        found = _weighted_sum(seen(), lambda update: update.weight / update.local_steps)
        if found is None:
            raise ValueError("fednova needs at least 1 update, got 0")
        if not counted > 0:
            raise ValueError(f"fednova needs a positive total weight, got {counted}")
        scale = np.float32(found.unit * worked / counted**2)
        return Step(state, np.multiply(found.total, scale, out=found.total), {"effective_steps": worked / counted})
