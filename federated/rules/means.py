"""Rules that are sums: one vector of memory, however many clients there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Step, Vector
from federated.errors import DataError
from federated.rules.columns import side_by_side, strips
from federated.rules.rule import Rule
from federated.updates import Update

_CHUNK = 65_536  # entries: a product of so many stays in a core's cache until it is added

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


def _weighted_sum(updates: Iterable[Update], weight: Callable[[Update], float]) -> tuple[Vector | None, float]:
    """Σ wᵢδᵢ and Σ wᵢ, in one pass and one vector of memory; None where there is no update."""
    stream = iter(updates)
    update = next(stream, None)
    if update is None:
        return None, 0.0
    weights = weight(update)
    total = update.delta * np.float32(weights)
    parts = strips(total.size)
    products = np.empty((len(parts), min(_CHUNK, total.size)), np.float32)
    with side_by_side(len(parts)) as each:
        for update in stream:
            own = weight(update)
            each(partial(_add_strip, total, update.delta, np.float32(own), parts, products))
            weights += own
    return total, weights


def _add_strip(
    total: Vector, delta: Vector, weight: np.float32, parts: Sequence[slice], products: NDArray[np.float32], place: int
) -> None:
    """``total`` += ``weight`` · ``delta`` in one strip, chunk by chunk: main memory is used as for a plain sum."""
    part = parts[place]
    for start in range(part.start, part.stop, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, part.stop))
        product = np.multiply(delta[chunk], weight, out=products[place, : chunk.stop - start])
        np.add(total[chunk], product, out=total[chunk])


class Mean(Rule):
    """Σδ / N: every client counts the same, whatever its size. The textbook's federated averaging."""

    kind: Literal["mean"] = "mean"

    @property
    def additive(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        total, count = _sum(updates)
        if total is None:
            raise ValueError("mean needs at least 1 update, got 0")
        return Step(state, np.divide(total, np.float32(count), out=total), {})


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
        total, weights = _weighted_sum(updates, lambda update: update.weight)
        if total is None:
            raise ValueError("weighted_mean needs at least 1 update, got 0")
        if not weights > 0:
            raise ValueError(f"weighted_mean needs a positive total weight, got {weights}")
        return Step(state, np.divide(total, np.float32(weights), out=total), {})

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

        total, _ = _weighted_sum(seen(), lambda update: update.weight / update.local_steps)
        if total is None:
            raise ValueError("fednova needs at least 1 update, got 0")
        if not counted > 0:
            raise ValueError(f"fednova needs a positive total weight, got {counted}")
        return Step(state, total * np.float32(worked / counted**2), {"effective_steps": worked / counted})
