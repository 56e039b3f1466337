"""Partitions by what is to be predicted: clients differ in their labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.data import Dataset, Rows
from federated.errors import DataError
from federated.partitions.partition import Clients, MinRows, Partition, client, deal

_DRAWS = 100


def _classes(kind: str, dataset: Dataset) -> tuple[str, ...]:
    """The names of the classes.

    Raises:
        DataError: there are none.
    """
    if dataset.labels is None:
        raise DataError(
            f"partition.{kind}: {dataset.origin} has no classes; "
            "use iid, shares, power_law, shards, features or natural"
        )
    return dataset.labels


class Dirichlet(Partition):
    """Each class dealt out over clients by proportions from Dirichlet(``alpha``) (Yurochkin et al. 2019, section 4).

    Small ``alpha``: few classes a client; large: all alike. The draw is repeated, up to 100 times, until every client
    has at least ``min_rows``.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    clients: Clients
    alpha: float = Field(gt=0)
    min_rows: MinRows = 10

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        _classes(self.kind, dataset)
        best: list[Rows] = [rows[:0]]
        for _ in range(_DRAWS):
            best = max(self._draw(dataset.rows.y[rows], rows, rng), best, key=_smallest)
            if _smallest(best) >= self.min_rows:
                break
        remedy = f"no draw of {_DRAWS} was better: raise alpha, or lower min_rows or clients"
        return deal(self.kind, best, self.min_rows, remedy)

    def _draw(self, classes: NDArray[np.int32], rows: Rows, rng: np.random.Generator) -> list[Rows]:
        parts: list[list[Rows]] = [[] for _ in range(self.clients)]
        for label in np.unique(classes):
            members = rng.permutation(rows[classes == label])
            proportions = rng.dirichlet(np.full(self.clients, self.alpha))
            cuts = np.round(np.cumsum(proportions)[:-1] * len(members)).astype(int)
            for part, piece in zip(parts, np.split(members, cuts), strict=True):
                part.append(piece)
        return [np.concatenate(part) for part in parts]


def _smallest(parts: list[Rows]) -> int:
    return min(map(len, parts))


class Shards(Partition):
    """Sorted by label and cut into equal shards, of which each client gets ``shards_each`` at random.

    The pathological split of McMahan et al. (2017, section 3), who give each of 100 clients 2 of 200 shards: a client
    holds about as many classes as shards. Equal labels come in random order, and shards are equal to within a row.
    Without classes rows are sorted by their target.
    """

    kind: Literal["shards"] = "shards"
    clients: Clients
    shards_each: int = Field(default=2, ge=1)
    min_rows: MinRows = 1

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        shuffled = rng.permutation(rows)
        by_label = shuffled[np.argsort(dataset.rows.y[shuffled], kind="stable")]
        shards = np.array_split(by_label, self.clients * self.shards_each)
        hands = rng.permutation(len(shards)).reshape(self.clients, self.shards_each)
        parts = [np.concatenate([shards[number] for number in hand]) for hand in hands]
        return deal(self.kind, parts, self.min_rows, "lower clients, shards_each or min_rows")


class Labels(Partition):
    """Exactly ``labels_each`` classes a client; who hold a class share its rows equally (Li et al. 2022, "#C = k").

    One client after the other takes the classes that the fewest hold so far, ties broken at random. So every class is
    held, and by as many clients as any other, to within one; in the paper chance decides, and may leave out a class.

    | where | then |
    | --- | --- |
    | a class has no rows to deal, the server holding them all | it does not count as a class |
    | there are fewer classes than ``labels_each`` | refused |
    | clients × ``labels_each`` is less than the classes | refused: rows would be left over |
    | a class has fewer rows than holders | refused: some client would hold a class less |
    """

    kind: Literal["labels"] = "labels"
    clients: Clients
    labels_each: int = Field(ge=1)
    min_rows: MinRows = 1

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        names, classes = _classes(self.kind, dataset), dataset.rows.y[rows]
        present = np.unique(classes)
        self._check(len(present))
        parts: list[list[Rows]] = [[] for _ in range(self.clients)]
        for label, holders in zip(present, self._holders(len(present), rng), strict=True):
            members = rng.permutation(rows[classes == label])
            self._check_class(names[label], len(members), holders)
            for holder, piece in zip(holders, np.array_split(members, len(holders)), strict=True):
                parts[holder].append(piece)
        remedy = "lower clients or min_rows, or raise labels_each"
        return deal(self.kind, [np.concatenate(part) for part in parts], self.min_rows, remedy)

    def _check(self, classes: int) -> None:
        if self.labels_each > classes:
            raise DataError(
                f"partition.labels.labels_each: a client cannot hold {self.labels_each} of {classes} classes; lower it"
            )
        if self.clients * self.labels_each < classes:
            raise DataError(
                f"partition.labels.labels_each: {self.clients} clients that hold {self.labels_each} each "
                f"leave out some of {classes} classes; raise it or clients"
            )

    def _check_class(self, name: str, rows: int, holders: list[int]) -> None:
        if rows < len(holders):
            raise DataError(
                f"partition.labels.labels_each: client {client(holders[-1], self.clients)!r} gets no row of class "
                f"{name!r}, which has {rows} rows for {len(holders)} clients; lower labels_each or clients"
            )

    def _holders(self, classes: int, rng: np.random.Generator) -> list[list[int]]:
        """Who holds each class, in random order."""
        holders: list[list[int]] = [[] for _ in range(classes)]
        for number in rng.permutation(self.clients):
            shuffled = rng.permutation(classes)
            least_held = sorted(shuffled, key=lambda label: len(holders[label]))
            for label in least_held[: self.labels_each]:
                holders[label].append(int(number))
        return holders
