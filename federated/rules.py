"""How the updates of a cohort become one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from federated.component import ByKind, Component, Step, Vector
from federated.targets import Target, build
from federated.updates import Update


class Rule(Component, ABC):
    """An aggregation rule.

    ``additive`` rules are sums: they hold one vector however many clients there are, and work on masked or
    encrypted updates. The others hold the cohort's matrix.
    """

    @property
    def additive(self) -> bool:
        """Whether it is a sum."""
        return False

    @property
    def averages(self) -> bool:
        """Whether every entry of the result lies among those of the updates: moving statistics need that."""
        return True

    @property
    def normalises_steps(self) -> bool:
        """Whether it divides by ``local_steps``, which are known for gradient descent only."""
        return False

    def init(self, size: int) -> Any:
        """The state before round 1, for updates of ``size`` parameters."""
        return None

    @abstractmethod
    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        """The aggregate, shape (parameters,).

        Raises:
            ValueError: there are too few updates.
        """


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


class CustomRule(Rule):
    """Your own rule: ``target`` names a ``Rule`` class, ``options`` are its fields."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _resolve(self) -> CustomRule:
        _ = self.rule
        return self

    @cached_property
    def rule(self) -> Rule:
        """The rule that ``target`` names."""
        return build(self.target, Rule, self.options)  # type: ignore[type-abstract]

    @property
    def additive(self) -> bool:
        return self.rule.additive

    @property
    def averages(self) -> bool:
        return self.rule.averages

    @property
    def normalises_steps(self) -> bool:
        return self.rule.normalises_steps

    def init(self, size: int) -> Any:
        return self.rule.init(size)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return self.rule.next(state, updates)


AnyRule = Annotated[Mean | WeightedMean | FedNova | CustomRule, Field(discriminator="kind"), ByKind()]
