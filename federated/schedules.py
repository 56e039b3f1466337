"""How a learning rate of clients or of the server changes from round to round, as a factor of the optimizer's own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from federated.component import ByKind, Component

Round = Annotated[int, Field(ge=1)]


class Schedule(Component, ABC):
    """A factor a round. It rises in a line over the first ``warmup`` rounds, from 1/(``warmup`` + 1) of its course."""

    warmup: int = Field(default=0, ge=0, description="rounds in which the learning rate rises")

    def factor(self, round: int) -> float:
        """What the learning rate is multiplied by in ``round``, the first of which is 1."""
        return min(round / (self.warmup + 1), 1.0) * self._course(round)

    @abstractmethod
    def _course(self, round: int) -> float:
        """The factor without a warm-up."""


class Constant(Schedule):
    """Always 1."""

    kind: Literal["constant"] = "constant"

    def _course(self, round: int) -> float:
        return 1.0


class Exponential(Schedule):
    """Multiplied by ``decay`` after every ``every`` rounds."""

    kind: Literal["exponential"] = "exponential"
    decay: float = Field(gt=0, le=1)
    every: Round = 1

    def _course(self, round: int) -> float:
        return float(self.decay ** ((round - 1) // self.every))


class Cosine(Schedule):
    """Half a cosine from 1 in round 1 down to ``end`` in round ``rounds`` and after (Loshchilov, Hutter 2017)."""

    kind: Literal["cosine"] = "cosine"
    rounds: int = Field(ge=2)
    end: float = Field(default=0.01, gt=0, le=1)

    def _course(self, round: int) -> float:
        passed = min((round - 1) / (self.rounds - 1), 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * passed)) / 2


class Steps(Schedule):
    """Multiplied by ``factor_each`` from every round in ``at`` on."""

    kind: Literal["steps"] = "steps"
    at: tuple[Round, ...] = Field(min_length=1)
    factor_each: float = Field(default=0.1, gt=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(after <= before for before, after in pairwise(self.at)):
            raise ValueError(f"at: expected rounds in rising order, got {list(self.at)}")
        return self

    def _course(self, round: int) -> float:
        return float(self.factor_each ** sum(round >= start for start in self.at))


AnySchedule = Annotated[Constant | Exponential | Cosine | Steps, Field(discriminator="kind"), ByKind()]
