"""A data set divided between clients and the server, so that no row has two uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import Component
from federated.data import Client, Dataset, Rows, Split, by_key
from federated.errors import DataError
from federated.partitions import Partition
from federated.randomness import generator
from federated.scaling import Affine, Scaling


class Holdout(Component):
    """Rows that nobody trains on, as shares, which are met on average.

    ``test`` and ``validation`` are shares of all rows, and the server's: the first measures the final model, the
    second steers stopping. ``client_test`` is the share of a client's own rows that it only tests on.
    """

    test: float = Field(default=0.2, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    client_test: float = Field(default=0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> Holdout:
        if self.test + self.validation >= 1:
            raise ValueError(f"test + validation must be below 1, got {self.test} + {self.validation}")
        return self


class ClientRows(NamedTuple):
    """Which rows of the data set one client trains and tests on."""

    train: Rows
    test: Rows


class Division(NamedTuple):
    """Which rows of the data set are whose; every row appears once."""

    test: Rows
    validation: Rows
    clients: dict[str, ClientRows]


@dataclass(frozen=True, slots=True, eq=False)
class Federation:
    """The parties and their scaled data; ``labels`` is None for regression.

    ``digests`` has a SHA-256 of the rows that came, by the client whose they are, or of all rows where nobody's name is
    on them. Whoever has a row can find it in them: they are not for others' eyes.
    """

    clients: dict[str, Client]
    validation: Split
    test: Split
    labels: tuple[str, ...] | None
    scaling: Affine
    digests: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.test.x.shape[1:]

    @property
    def classes(self) -> int | None:
        """How many classes there are; None for regression."""
        return None if self.labels is None else len(self.labels)


def divide(dataset: Dataset, partition: Partition, holdout: Holdout, seed: int) -> Division:
    """Deals every row out, to the server or to one client.

    *Guarantees:* what a row is for, testing or training, follows from its values and the seed alone. Where rows are
    added no row that was trained on becomes one to test on, though it may change hands; equal rows have one use.

    | where | then |
    | --- | --- |
    | chance gives the server's test or validation, or a client's test, no row | the row with the smallest number |
    | chance gives a client nothing to train on | the row with the largest number, which may be tested on later |

    Raises:
        DataError: a part would be empty, or the partition cannot be made.
    """
    numbers = dataset.numbers(seed)
    test, validation, rest = _served(numbers, holdout)
    dealt = partition.split(dataset, np.sort(rest), generator(seed, 0, "partition"))
    served = holdout.test + holdout.validation
    below = served + (1 - served) * holdout.client_test
    clients = {name: _divide_client(name, rows, numbers, below) for name, rows in sorted(dealt.items())}
    return Division(test, validation, clients)


def _served(numbers: NDArray[np.float64], holdout: Holdout) -> tuple[Rows, Rows, Rows]:
    """The server's test and validation rows, and the others."""
    for name in ("test", "validation"):
        share = getattr(holdout, name)
        if round(share * len(numbers)) == 0:
            raise DataError(f"holdout.{name}: {share} of {len(numbers)} rows is none; raise it or bring more rows")
    order = np.argsort(numbers, kind="stable")
    tests = max(_below(numbers, holdout.test), 1)
    served = max(_below(numbers, holdout.test + holdout.validation), tests + 1)
    if served >= len(numbers):
        raise DataError(f"holdout: test and validation take all {len(numbers)} rows; lower them or bring more rows")
    return np.sort(order[:tests]), np.sort(order[tests:served]), order[served:]


def _divide_client(name: str, rows: Rows, numbers: NDArray[np.float64], below: float) -> ClientRows:
    if len(rows) < 2:
        raise DataError(
            f"partition: client {name!r} has {len(rows)} rows and needs at least 2, "
            "one to train and one to test on; leave it out or change the partition"
        )
    order = rows[np.argsort(numbers[rows], kind="stable")]
    tests = min(max(_below(numbers[rows], below), 1), len(rows) - 1)
    return ClientRows(np.sort(order[tests:]), np.sort(order[:tests]))


def _below(numbers: NDArray[np.float64], bound: float) -> int:
    return int(np.count_nonzero(numbers < bound))


def federate(dataset: Dataset, partition: Partition, holdout: Holdout, scaling: Scaling, seed: int) -> Federation:
    """The parties with their data, scaled by what the training rows say.

    Raises:
        DataError: the data cannot be divided like that.
    """
    division = divide(dataset, partition, holdout, seed)
    affine = scaling.fit([dataset.rows.take(rows.train) for rows in division.clients.values()])

    def part(rows: Rows) -> Split:
        return affine.apply(dataset.rows.take(rows))

    clients = {name: Client(name, part(rows.train), part(rows.test)) for name, rows in division.clients.items()}
    served = (part(division.validation), part(division.test))
    return Federation(clients, *served, dataset.labels, affine, _digests(dataset))


def _digests(dataset: Dataset) -> dict[str, str]:
    keys = np.full(len(dataset.rows), "") if dataset.keys is None else dataset.keys
    return {key: dataset.rows.take(places).sha256 for key, places in by_key(keys, keys).items()}
