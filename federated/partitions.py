"""Who holds which rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from federated.component import ByKind, Component
from federated.data import Dataset, Rows, by_key
from federated.errors import DataError


class Partition(Component, ABC):
    """Deals rows out to clients."""

    @property
    @abstractmethod
    def known_clients(self) -> int | None:
        """How many clients there will be, or None where only the data can tell."""

    @abstractmethod
    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        """``rows`` dealt out: each row to one client.

        Raises:
            DataError: the data cannot be dealt out like that.
        """


def _named(parts: list[Rows]) -> dict[str, Rows]:
    width = len(str(len(parts) - 1))
    return {f"client-{number:0{width}}": part for number, part in enumerate(parts)}


class Natural(Partition):
    """By the key that the data carry: a hospital, a device, a user."""

    kind: Literal["natural"] = "natural"

    @property
    def known_clients(self) -> int | None:
        return None

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        if dataset.keys is None:
            raise DataError(
                f"partition.natural: {dataset.origin} does not say whose rows are whose; "
                "name its client column, or use iid, dirichlet or shares"
            )
        return {name: rows[places] for name, places in by_key(dataset.keys[rows], dataset.keys).items()}


class Shares(Partition):
    """At random, client k getting the k-th of ``shares``, which are scaled to sum to 1."""

    kind: Literal["shares"] = "shares"
    shares: tuple[float, ...] = Field(min_length=1)

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
        cuts = np.cumsum(self.shares)[:-1] / np.sum(self.shares) * len(rows)
        return _named(np.split(rng.permutation(rows), np.round(cuts).astype(int)))


class Iid(Partition):
    """At random, in equal parts."""

    kind: Literal["iid"] = "iid"
    clients: int = Field(ge=1)

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        return _named(np.array_split(rng.permutation(rows), self.clients))


class Dirichlet(Partition):
    """Each class dealt out over clients by proportions from Dirichlet(``alpha``) (Yurochkin et al. 2019, section 4).

    Small ``alpha``: few classes a client; large: all alike. The draw is repeated until every client has at least
    ``min_rows``.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    clients: int = Field(ge=1)
    alpha: float = Field(gt=0)
    min_rows: int = Field(default=10, ge=1)

    _DRAWS = 100

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        if dataset.labels is None:
            raise DataError(f"partition.dirichlet: {dataset.origin} has no classes; use iid, shares or natural")
        for _ in range(self._DRAWS):
            parts = self._draw(dataset.rows.y[rows], rows, rng)
            if min(map(len, parts)) >= self.min_rows:
                return _named(parts)
        raise DataError(
            f"partition.dirichlet: {self._DRAWS} draws gave none of {self.clients} clients with "
            f"{self.min_rows} of {len(rows)} rows each; raise alpha, or lower min_rows or clients"
        )

    def _draw(self, classes: NDArray[np.int32], rows: Rows, rng: np.random.Generator) -> list[Rows]:
        parts: list[list[Rows]] = [[] for _ in range(self.clients)]
        for label in np.unique(classes):
            members = rng.permutation(rows[classes == label])
            proportions = rng.dirichlet(np.full(self.clients, self.alpha))
            cuts = np.round(np.cumsum(proportions)[:-1] * len(members)).astype(int)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
        return [np.sort(np.concatenate(part)) for part in parts]


AnyPartition = Annotated[Natural | Shares | Iid | Dirichlet, Field(discriminator="kind"), ByKind()]
