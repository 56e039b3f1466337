"""Selectors that need to know nothing but who there is."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from federated.selectors.selector import Pool, Selection, Selector, chosen, drawn, drawn_by_rows


class All(Selector):
    """Every client, every round."""

    kind: Literal["all"] = "all"

    @property
    def sampling_rate(self) -> float | None:
        return 1.0

    def cohort_size(self, clients: int) -> int:
        return clients

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        return chosen(pool.names, pool)


class Uniform(Selector):
    """``cohort`` clients drawn uniformly without replacement (McMahan et al. 2017, algorithm 1)."""

    kind: Literal["uniform"] = "uniform"
    cohort: int = Field(ge=1, description="clients a round")

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        _require(self.kind, self.cohort, pool)
        return chosen(drawn(pool.names, self.cohort, rng), pool)


class Poisson(Selector):
    """Each client by itself, with probability ``rate``: the draw that privacy accounting may rely on.

    The cohort differs in size from round to round. One smaller than the plan's quorum trains nothing: the round leaves
    the model as it is. (McMahan et al. 2018, algorithm 1.)
    """

    kind: Literal["poisson"] = "poisson"
    rate: float = Field(gt=0, le=1, description="probability of each client")

    @property
    def sampling_rate(self) -> float | None:
        return self.rate

    def cohort_size(self, clients: int) -> int:
        return math.ceil(self.rate * clients)

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        names = np.array(pool.names)
        return chosen(names[rng.random(len(names)) < self.rate].tolist(), pool)


class BySize(Selector):
    """``cohort`` clients drawn without replacement, those with more training rows more often.

    With the rule ``mean`` each row then counts about the same; ``weighted_mean`` would count sizes twice (Li et al.
    2020, scheme I, but that nobody is drawn twice).
    """

    kind: Literal["by_size"] = "by_size"
    cohort: int = Field(ge=1, description="clients a round")

    @property
    def asks_rows(self) -> bool:
        return True

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        _require(self.kind, self.cohort, pool)
        names, total = drawn_by_rows(pool, self.cohort, rng), sum(pool.rows.values())
        reasons = {name: f"{pool.rows[name]} of {total} rows" for name in names}
        return chosen(names, pool)._replace(reasons=reasons)


class RoundRobin(Selector):
    """The next ``cohort`` clients by name, and after the last the first again: in n/``cohort`` rounds all take part."""

    kind: Literal["round_robin"] = "round_robin"
    cohort: int = Field(ge=1, description="clients a round")

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def most_turns(self, rounds: int, clients: int) -> int:
        return math.ceil(rounds * self.cohort / clients)

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        _require(self.kind, self.cohort, pool)
        names, first = pool.names, (round - 1) * self.cohort
        turns = {names[turn % len(names)]: f"turn {turn + 1}" for turn in range(first, first + self.cohort)}
        return chosen(list(turns), pool)._replace(reasons=turns)


def _require(kind: str, cohort: int, pool: Pool) -> None:
    if cohort > len(pool.rows):
        raise ValueError(f"{kind} with cohort={cohort} needs as many clients, got {len(pool.rows)}")
