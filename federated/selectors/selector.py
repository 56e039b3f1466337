"""What a selector is, what it may know of the clients, and what it says of its choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from federated.component import Component
from federated.data import Card

Losses = Callable[[Sequence[str]], Mapping[str, float]]


class Pool(NamedTuple):
    """The clients before a round, by name: their training rows, and what their cards say.

    ``losses`` asks clients for the loss of the global model on their training rows, which is work for each of them.
    """

    rows: Mapping[str, int]
    cards: Mapping[str, Card]
    losses: Losses

    @property
    def names(self) -> tuple[str, ...]:
        """All clients, sorted."""
        return tuple(sorted(self.rows))


class Selection(NamedTuple):
    """The cohort of a round, sorted; who could have been in it, sorted; and why somebody is or is not, by name.

    Where nothing is said of a client, chance decided.
    """

    cohort: tuple[str, ...]
    eligible: tuple[str, ...]
    reasons: Mapping[str, str]


class Selector(Component, ABC):
    """Chooses the cohort of a round."""

    @property
    def named(self) -> frozenset[str]:
        """The clients that it names."""
        return frozenset()

    @property
    def asks_rows(self) -> bool:
        """Whether it goes by what clients hold: how many rows, or how large their loss is."""
        return False

    @property
    def sampling_rate(self) -> float | None:
        """The probability with which each client takes part, by itself, as privacy is counted; None: it is not so."""
        return None

    @property
    def asks_losses(self) -> bool:
        """Whether clients tell it their losses."""
        return False

    def check(self, cards: Mapping[str, Card]) -> None:
        """That the clients' cards, by name, say what it needs to know.

        Raises:
            PlanError: one does not.
        """

    @abstractmethod
    def cohort_size(self, clients: int) -> int:
        """How many of ``clients`` take part in a round; on average, rounded up, where chance decides."""

    def most_turns(self, rounds: int, clients: int) -> int:
        """The most of so many rounds that any of ``clients`` clients is in, whatever chance decides."""
        return rounds

    @abstractmethod
    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        """The cohort, each client once.

        Raises:
            ValueError: there are too few clients.
        """


def drawn(names: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """``count`` of ``names``, uniformly and without replacement, in the order of the draw."""
    return [str(name) for name in rng.choice(np.array(names), size=count, replace=False)]


def drawn_by_rows(pool: Pool, count: int, rng: np.random.Generator) -> list[str]:
    """``count`` clients, one after the other, each by its share of the training rows of those that remain."""
    names = pool.names
    rows = np.array([pool.rows[name] for name in names], float)
    picked = rng.choice(np.array(names), size=count, replace=False, p=rows / rows.sum())
    return [str(name) for name in picked]


def chosen(names: Sequence[str], pool: Pool) -> Selection:
    """A cohort of which nothing is to be said, out of all clients."""
    return Selection(tuple(sorted(names)), pool.names, {})
