"""What an attack is, who is behind it, when, and what attackers know of the others."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from federated.component import Component, Vector
from federated.data import Client, Split
from federated.rules.columns import by_column
from federated.selectors.selector import drawn
from federated.updates import Update

_NAMED = 5  # clients that a message names


class Rounds(Component):
    """The rounds from ``first`` to ``last``, both included; ``last: null`` is without end."""

    first: int = Field(default=1, ge=1)
    last: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last must not come before first, got {self.first} and {self.last}")
        return self

    def __contains__(self, round: int) -> bool:
        return self.first <= round and (self.last is None or round <= self.last)


class Seen:
    """What attackers know of a round: ``honest``, the updates of those who do not attack, and their own number.

    Only updates without NaN and infinity are looked at. Where nobody is honest, it is the attackers' own.
    """

    def __init__(self, honest: Sequence[Update], attackers: int) -> None:
        self._deltas = [update.delta for update in sorted(honest, key=lambda update: update.client)]
        self.honest, self.attackers = len(self._deltas), attackers

    @cached_property
    def mean(self) -> Vector:
        """The plain mean of the updates, shape (parameters,)."""
        return by_column(self._deltas, lambda block: np.mean(block, axis=0, dtype=np.float64))

    @cached_property
    def deviation(self) -> Vector:
        """Each coordinate's standard deviation over the updates, shape (parameters,)."""
        return by_column(self._deltas, lambda block: np.std(block, axis=0, dtype=np.float64))


class Attack(Component, ABC):
    """Some clients that do, in some rounds, what they should not: a simulation, to try a rule before it is trusted.

    Who: ``clients`` by name, or a ``share`` or ``count`` of all of them, drawn once from the seed. An attack poisons
    rows before local training, or lies about the update after it, or both; every hook does nothing unless overridden.
    """

    kind: str
    clients: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    share: float | None = Field(default=None, gt=0, le=1, description="of all clients; at least one")
    count: int | None = Field(default=None, ge=1, description="clients, of all")
    rounds: Rounds = Rounds()

    @model_validator(mode="after")
    def _say_who(self) -> Self:
        named = [name for name in ("clients", "share", "count") if getattr(self, name) is not None]
        if len(named) != 1:
            raise ValueError(
                f"who attacks is said by one of clients, share and count, got {' and '.join(named) or 'none'}"
            )
        return self

    def who(self, names: Sequence[str], rng: np.random.Generator) -> frozenset[str]:
        """The attackers among all clients; the order of ``names`` does not matter."""
        if self.clients is not None:
            return frozenset(self.clients)
        count = self.count or max(round((self.share or 0.0) * len(names)), 1)
        return frozenset(drawn(sorted(names), count, rng))

    def objection(self, names: Sequence[str], inputs: tuple[int, ...], classes: int | None) -> str:
        """Why it cannot be made on such clients and data, in a line; empty where it can."""
        unknown = sorted(frozenset(self.clients or ()) - frozenset(names))
        if unknown:
            more = " …" if len(names) > _NAMED else ""
            return f"there is no client {unknown[0]}; there are {', '.join(sorted(names)[:_NAMED])}{more}"
        if self.count is not None and self.count > len(names):
            return f"count is {self.count}, but there are {len(names)} clients; lower it"
        return self.misfit(inputs, classes)

    def misfit(self, inputs: tuple[int, ...], classes: int | None) -> str:
        """Why it cannot be made on examples of such a shape, in so many classes; empty where it can."""
        return ""

    def poison(self, client: Client, classes: int | None, rng: np.random.Generator) -> Client:
        """The attacker as it trains. ``rng`` is the same in every round."""
        return client

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        """What the attacker passes off as its update, given that which it has trained."""
        return own

    def triggered(self, rows: Split) -> Split | None:
        """Rows on which success shows, with the targets that the attacker wants; None where it wants none."""
        return None
