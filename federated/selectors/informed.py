"""Selectors that look at what is known of the clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from federated.data import Card
from federated.errors import PlanError
from federated.selectors.selector import Pool, Selection, Selector, chosen, drawn, drawn_by_rows


class PowerOfChoice(Selector):
    """The ``cohort`` clients with the largest loss of the global model, among ``candidates`` drawn by size.

    Training goes where the model is bad: faster, at the price of a bias that grows with ``candidates`` (Cho et al.
    2020, π_pow-d). Every candidate scores the model on all of its training rows before the round.
    """

    kind: Literal["power_of_choice"] = "power_of_choice"
    cohort: int = Field(ge=1, description="clients a round")
    candidates: int = Field(ge=1, description="clients that score the model before the round")

    @property
    def asks_losses(self) -> bool:
        return True

    @model_validator(mode="after")
    def _some_to_choose_from(self) -> Self:
        if self.candidates < self.cohort:
            raise ValueError(f"candidates must be at least cohort, got {self.candidates} and {self.cohort}")
        return self

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    @property
    def asks_rows(self) -> bool:
        return True

    def check(self, cards: Mapping[str, Card]) -> None:
        if self.candidates > len(cards):
            raise PlanError(
                f"algorithm.select.power_of_choice.candidates: {self.candidates} clients score the model each round, "
                f"but there are {len(cards)}; lower it or add clients"
            )

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        if self.candidates > len(pool.rows):
            raise ValueError(f"power_of_choice with candidates={self.candidates} needs as many, got {len(pool.rows)}")
        candidates = sorted(drawn_by_rows(pool, self.candidates, rng))
        losses = pool.losses(candidates)
        ranked = sorted(candidates, key=lambda name: (-_comparable(losses[name]), name))
        said = {name: f"loss {losses[name]:.6g}, rank {rank} of {len(ranked)}" for rank, name in enumerate(ranked, 1)}
        return chosen(ranked[: self.cohort], pool)._replace(reasons=said)


def _comparable(loss: float) -> float:
    """A loss that is not a number is the largest."""
    return loss if np.isfinite(loss) else float("inf")


class Stratified(Selector):
    """``cohort`` clients, from every group of clients its share: groups are the values of ``tag`` on clients' cards.

    Shares go by the number of clients, fractions to the largest remainders; where the cohort allows it, no group is
    left out. Within a group chance decides.
    """

    kind: Literal["stratified"] = "stratified"
    cohort: int = Field(ge=1, description="clients a round")
    tag: str = Field(min_length=1, description="field of the clients' cards")

    def cohort_size(self, clients: int) -> int:
        return self.cohort

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        if self.cohort > len(pool.rows):
            raise ValueError(f"stratified with cohort={self.cohort} needs as many clients, got {len(pool.rows)}")
        groups = self._groups(pool)
        shares = _shares({value: len(names) for value, names in groups.items()}, self.cohort)
        cohort = {
            name: f"{self.tag} {value}" for value, names in groups.items() for name in drawn(names, shares[value], rng)
        }
        return chosen(list(cohort), pool)._replace(reasons=cohort)

    def check(self, cards: Mapping[str, Card]) -> None:
        for name in sorted(cards):
            if self.tag not in cards[name]:
                raise PlanError(
                    f"algorithm.select.stratified.tag: the card of client {name} has no {self.tag!r}; "
                    f"add it under cards: {{{name}: {{{self.tag}: …}}}}"
                )

    def _groups(self, pool: Pool) -> dict[str, list[str]]:
        self.check(pool.cards)
        groups = defaultdict[str, list[str]](list)
        for name in pool.names:
            groups[str(pool.cards[name][self.tag])].append(name)
        return dict(sorted(groups.items()))


def _shares(sizes: dict[str, int], cohort: int) -> dict[str, int]:
    """How many of each group: in proportion, by largest remainders, at least one each where there are enough."""
    least = 1 if cohort >= len(sizes) else 0
    exact = {value: cohort * size / sum(sizes.values()) for value, size in sizes.items()}
    shares = {value: max(int(amount), least) for value, amount in exact.items()}
    while (missing := cohort - sum(shares.values())) != 0:
        step = 1 if missing > 0 else -1
        open_ = [value for value in sizes if least <= shares[value] + step <= sizes[value]]
        value = max(open_, key=lambda group: (step * (exact[group] - shares[group]), group))
        shares[value] += step
    return shares
