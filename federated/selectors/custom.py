"""A selector from your own code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from federated.data import Card
from federated.selectors.selector import Pool, Selection, Selector
from federated.targets import Target, build


class CustomSelector(Selector):
    """Your own selector: ``target`` names a ``Selector`` class, ``options`` are its fields."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _resolve(self) -> CustomSelector:
        _ = self.selector
        return self

    @cached_property
    def selector(self) -> Selector:
        """The selector that ``target`` names."""
        return build(self.target, Selector, self.options)  # type: ignore[type-abstract]

    @property
    def named(self) -> frozenset[str]:
        return self.selector.named

    @property
    def asks_rows(self) -> bool:
        return self.selector.asks_rows

    @property
    def sampling_rate(self) -> float | None:
        return self.selector.sampling_rate

    @property
    def asks_losses(self) -> bool:
        return self.selector.asks_losses

    def check(self, cards: Mapping[str, Card]) -> None:
        self.selector.check(cards)

    def cohort_size(self, clients: int) -> int:
        return self.selector.cohort_size(clients)

    def most_turns(self, rounds: int, clients: int) -> int:
        return self.selector.most_turns(rounds, clients)

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        return self.selector.select(round, pool, rng)
