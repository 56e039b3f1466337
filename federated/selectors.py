"""Which clients take part in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from federated.component import ByKind, Component


class Selector(Component, ABC):
    """Chooses the cohort of a round."""

    @abstractmethod
    def cohort_size(self, clients: int) -> int:
        """How many of ``clients`` take part in a round."""

    @abstractmethod
    def select(self, round: int, clients: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        """The names of the cohort, sorted, each once."""


class All(Selector):
    """Every client, every round."""

    kind: Literal["all"] = "all"

    def cohort_size(self, clients: int) -> int:
        return clients

    def select(self, round: int, clients: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        return tuple(sorted(clients))


class Uniform(Selector):
    """``cohort`` clients drawn uniformly without replacement (McMahan et al. 2017, algorithm 1)."""

    kind: Literal["uniform"] = "uniform"
    cohort: int = Field(ge=1, description="clients a round")

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def select(self, round: int, clients: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
        if self.cohort > len(clients):
            raise ValueError(f"uniform with cohort={self.cohort} needs as many clients, got {len(clients)}")
        drawn = rng.choice(np.array(sorted(clients)), size=self.cohort, replace=False)
        return tuple(sorted(drawn.tolist()))


AnySelector = Annotated[All | Uniform, Field(discriminator="kind"), ByKind()]
