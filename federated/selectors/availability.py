"""Clients that are not always there, and do not always finish."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from federated.component import Component
from federated.data import Card
from federated.errors import PlanError
from federated.selectors.selector import Pool, Selection, Selector, drawn

Probability = Annotated[float, Field(ge=0, le=1)]


class Presence(Component):
    """When a client can be reached: with ``probability``, in rounds ``at`` of every ``cycle`` of rounds.

    Rounds of a cycle count from 1; ``at: null`` is all of them.
    """

    probability: Probability = 1.0
    cycle: int = Field(default=1, ge=1)
    at: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _within_the_cycle(self) -> Self:
        outside = [place for place in self.at or () if not 1 <= place <= self.cycle]
        if outside:
            raise ValueError(f"at: rounds of a cycle of {self.cycle} are 1 … {self.cycle}, got {outside[0]}")
        return self

    @property
    def ever(self) -> bool:
        """Whether the client is there in any round."""
        return self.probability > 0 and self.at != ()

    def holds(self, round: int, draw: float) -> bool:
        """Whether the client is there, by a ``draw`` from [0, 1)."""
        scheduled = self.at is None or (round - 1) % self.cycle + 1 in self.at
        return scheduled and draw < self.probability


class Available(Selector):
    """The first ``cohort`` to finish, of ``over`` times as many invited among those that can be reached.

    ``clients`` says when somebody can be reached; ``presence`` is everybody else's. An invited client finishes with
    probability ``finish``, in an order that chance decides. Where fewer are there or finish, the cohort is smaller
    (Bonawitz et al. 2019, section 2.2: 130 % are invited). One smaller than the plan's quorum trains nothing: the round
    leaves the model as it is.
    """

    kind: Literal["available"] = "available"
    cohort: int = Field(ge=1, description="clients a round")
    over: float = Field(default=1.0, ge=1, description="how many times the cohort is invited")
    finish: Probability = 1.0
    presence: Presence = Presence()
    clients: dict[str, Presence] = Field(default_factory=dict)

    @property
    def named(self) -> frozenset[str]:
        return frozenset(self.clients)

    def reaches(self, client: str) -> bool:
        """Whether it ever can."""
        return self.clients.get(client, self.presence).ever

    def check(self, cards: Mapping[str, Card]) -> None:
        if not any(map(self.reaches, cards)):
            raise PlanError(
                "algorithm.select.available: no client is ever there; give presence, or clients of their own, a "
                "probability above 0 and rounds"
            )
        if not self.finish:
            raise PlanError("algorithm.select.available: finish is 0, so nobody ever finishes; raise it")

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        names = pool.names
        draws = zip(names, rng.random(len(names)), strict=True)
        there = tuple(name for name, draw in draws if self.clients.get(name, self.presence).holds(round, draw))
        invited = drawn(there, min(math.ceil(self.cohort * self.over), len(there)), rng) if there else []
        finished = [name for name, draw in zip(invited, rng.random(len(invited)), strict=True) if draw < self.finish]
        cohort = finished[: self.cohort]
        reasons = dict.fromkeys(set(invited) - set(finished), "invited, did not finish")
        reasons |= dict.fromkeys(finished[self.cohort :], f"finished, after the first {self.cohort}")
        reasons |= {name: f"finished as number {place}" for place, name in enumerate(cohort, 1)}
        return Selection(tuple(sorted(cohort)), there, dict(sorted(reasons.items())))
