"""Partitions that look at no row: clients differ in how many they hold, if at all."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, field_validator

from federated.data import Dataset, Rows
from federated.partitions.partition import Clients, MinRows, Partition, deal


def _in_proportion(rows: Rows, shares: ArrayLike) -> list[Rows]:
    """``rows`` cut in their order into parts of these shares, to within a row."""
    cuts = np.cumsum(shares)[:-1] / np.sum(shares) * len(rows)
    return np.split(rows, np.round(cuts).astype(int))


class Shares(Partition):
    """At random, client k getting the k-th of ``shares``, which are scaled to sum to 1."""

    kind: Literal["shares"] = "shares"
    shares: tuple[float, ...] = Field(min_length=1)
    min_rows: MinRows = 1

    @field_validator("shares")
    @classmethod
    def _positive(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if min(shares) <= 0:
            raise ValueError(f"every share must be positive, got {min(shares)}")
        return shares

    @property
    def known_clients(self) -> int | None:
        return len(self.shares)

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        parts = _in_proportion(rng.permutation(rows), self.shares)
        return deal(self.kind, parts, self.min_rows, "raise its share, or lower min_rows")


class Iid(Partition):
    """At random, in equal parts."""

    kind: Literal["iid"] = "iid"
    clients: Clients
    min_rows: MinRows = 1

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        parts = np.array_split(rng.permutation(rows), self.clients)
        return deal(self.kind, parts, self.min_rows, "lower clients or min_rows")


class PowerLaw(Partition):
    """At random, the client of rank r holding rows in proportion to r^-``exponent``; ranks are dealt at random.

    Few clients hold much, many hold little (as the devices of Li et al. 2020, section 5.1). With ``exponent: 0`` all
    hold as much; with 1 (Zipf's law) the second holds half as much as the first.
    """

    kind: Literal["power_law"] = "power_law"
    clients: Clients
    exponent: float = Field(default=1.0, ge=0)
    min_rows: MinRows = 1

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        ranks = 1.0 + rng.permutation(self.clients)
        parts = _in_proportion(rng.permutation(rows), ranks**-self.exponent)
        return deal(self.kind, parts, self.min_rows, "lower exponent, clients or min_rows")
