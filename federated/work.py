"""How much each client does in a round: clients need not do the same, and stragglers count with what they have done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from federated.component import ByKind, Component

Seconds = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]


class Asked(Component):
    """The work that a plan asks of a client in one round: ``steps`` in all, ``epoch`` of which pass over its rows."""

    client: str
    steps: int
    epoch: int


class Work(Component, ABC):
    """A policy: how many of the steps that are asked a client does. A function of its arguments alone."""

    kind: str

    @property
    def named(self) -> frozenset[str]:
        """The clients that it names."""
        return frozenset()

    @abstractmethod
    def steps(self, asked: Asked, rng: np.random.Generator) -> int:
        """At least 1."""


class Same(Work):
    """Every client does what is asked."""

    kind: Literal["same"] = "same"

    def steps(self, asked: Asked, rng: np.random.Generator) -> int:
        return asked.steps


class Partial(Work):
    """A share of the clients, drawn in every round, is cut short after a number of steps drawn from 1 to what is asked.

    Systems heterogeneity as it is simulated by Li et al. 2020 (FedProx), section 5.2.
    """

    kind: Literal["partial"] = "partial"
    stragglers: float = Field(default=0.5, ge=0, le=1, description="chance of a client to be cut short")

    def steps(self, asked: Asked, rng: np.random.Generator) -> int:
        is_straggler = rng.random() < self.stragglers
        return int(rng.integers(1, asked.steps, endpoint=True)) if is_straggler else asked.steps


class PerClient(Work):
    """Epochs by client; the others do what is asked."""

    kind: Literal["per_client"] = "per_client"
    epochs: dict[str, Annotated[float, Field(gt=0)]]

    @property
    def named(self) -> frozenset[str]:
        return frozenset(self.epochs)

    def steps(self, asked: Asked, rng: np.random.Generator) -> int:
        if asked.client not in self.epochs:
            return asked.steps
        return max(round(self.epochs[asked.client] * asked.epoch), 1)


class TimeBudget(Work):
    """As many steps as a client does in ``seconds``, but no more than is asked, at its speed in steps a second.

    The speed is told, not measured, so that the same plan gives the same bits. ``clients`` gives it by name, for the
    others it is ``steps_per_second``.
    """

    kind: Literal["time_budget"] = "time_budget"
    seconds: Seconds
    steps_per_second: Rate
    clients: dict[str, Rate] = Field(default_factory=dict)

    @property
    def named(self) -> frozenset[str]:
        return frozenset(self.clients)

    def steps(self, asked: Asked, rng: np.random.Generator) -> int:
        speed = self.clients.get(asked.client, self.steps_per_second)
        return min(max(int(speed * self.seconds * (1 + 1e-9)), 1), asked.steps)  # 0.29 s at 100 a second are 29


AnyWork = Annotated[Same | Partial | PerClient | TimeBudget, Field(discriminator="kind"), ByKind()]
