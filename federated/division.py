"""A data set divided between clients and the server, so that no row that is tested on is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import ByKind, Component
from federated.data import Dataset, Rows, by_key
from federated.errors import DataError
from federated.partitions import Partition
from federated.randomness import generator
from federated.words import NUMBER, WORD, WORD_OR_NUMBER

Given = Annotated[Literal["given"], WORD]
Share = Annotated[float, Field(gt=0, lt=1), NUMBER]


class Holdout(Component):
    """Rows that nobody trains on: shares, which are met on average, or those that the data themselves set aside.

    ``test`` and ``validation`` are the server's: the first measures the final model, the second steers stopping and may
    be 0. ``root`` is the server's, too: what it trains on itself, for rules that go by that. ``client_test`` is what a
    client only tests on, of its own rows. Shares are of the rows that are not set aside.

    | ``given`` | then |
    | --- | --- |
    | ``test`` | the server tests on all rows set aside |
    | ``client_test`` | each client tests on those of its own, by the data's client key |
    | both | the server tests on all clients' test rows together: the use is the same, and nobody trains on them |
    | neither, though rows are set aside | refused: a row meant for tests would be trained on |
    """

    test: Annotated[Given | Share, WORD_OR_NUMBER, ByKind()] = 0.2
    validation: float = Field(default=0.1, ge=0, lt=1)
    client_test: Annotated[Given | Share, WORD_OR_NUMBER, ByKind()] = 0.2
    root: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _leave_rows_to_train_on(self) -> Holdout:
        shares = (0.0 if self.test == "given" else self.test, self.validation, self.root)
        if sum(shares) >= 1:
            raise ValueError(f"test + validation + root must be below 1, got {' + '.join(map(str, shares))}")
        return self

    def check(self, dataset: Dataset) -> None:
        """That rows set aside are tested on, and that there are some where they are asked for.

        Raises:
            DataError: it is not so.
        """
        asked = [name for name in ("test", "client_test") if getattr(self, name) == "given"]
        aside = 0 if dataset.reserved is None else int(dataset.reserved.sum())
        if asked and not aside:
            raise DataError(f"holdout.{asked[0]}: {dataset.origin} sets no rows aside for testing; give a share")
        if aside == len(dataset.rows):
            raise DataError(f"{dataset.origin}: all {aside} rows are set aside for testing; leave some to train on")
        if aside and not asked:
            raise DataError(
                f"holdout: {dataset.origin} sets {aside} rows aside for testing, which shares would train on; "
                "use test: given, client_test: given, or both"
            )


class ClientRows(NamedTuple):
    """Which rows of the data set one client trains and tests on."""

    train: Rows
    test: Rows


class Division(NamedTuple):
    """Which rows of the data set are whose.

    Every row appears once; where both tests are given, a test row is the server's and its client's.
    """

    test: Rows
    validation: Rows
    root: Rows
    clients: dict[str, ClientRows]

    @property
    def train(self) -> Rows:
        """What all clients train on."""
        return np.concatenate([client.train for client in self.clients.values()])


def divide(dataset: Dataset, partition: Partition, holdout: Holdout, seed: int) -> Division:
    """Deals every row out, to the server or to one client.

    *Guarantees:* what a row is for, testing or training, follows from its values and the seed alone, or from the data
    where they set it aside. Where rows are added no row that was trained on becomes one to test on, though it may
    change hands; equal rows that are not set aside have one use.

    | where | then |
    | --- | --- |
    | chance gives the server's test or validation, or a client's test, no row | the row with the smallest number |
    | chance gives a client nothing to train on | the row with the largest number, which may be tested on later |

    Raises:
        DataError: a part would be empty, or the partition cannot be made.
    """
    holdout.check(dataset)
    numbers = dataset.numbers(seed)
    aside = np.zeros(len(numbers), np.bool_) if dataset.reserved is None else dataset.reserved
    test, validation, root, rest = _served(numbers, np.flatnonzero(~aside), holdout)
    dealt = partition.split(dataset, np.sort(rest), generator(seed, 0, "partition"))
    dealt = {name: dealt[name] for name in sorted(dealt)}
    if holdout.client_test == "given":
        clients = _given(_keys(dataset), dealt, np.flatnonzero(aside))
    else:
        served = _share(holdout.test) + holdout.validation + holdout.root
        below = served + (1 - served) * holdout.client_test
        clients = {name: _divide_client(name, rows, numbers, below) for name, rows in dealt.items()}
    return Division(np.flatnonzero(aside) if holdout.test == "given" else test, validation, root, clients)


def _share(test: Literal["given"] | float) -> float:
    """The share of rows not set aside."""
    return 0.0 if test == "given" else test


def _served(numbers: NDArray[np.float64], rows: Rows, holdout: Holdout) -> list[Rows]:
    """The server's test, validation and root rows among those that are not set aside, and the others."""
    shares = {"test": _share(holdout.test), "validation": holdout.validation, "root": holdout.root}
    order, ends, upto = rows[np.argsort(numbers[rows], kind="stable")], [0], 0.0
    for name, share in shares.items():
        if share and round(share * len(rows)) == 0:
            raise DataError(f"holdout.{name}: {share} of {len(rows)} rows is none; raise it or bring more rows")
        upto += share
        ends.append(max(_below(numbers[rows], upto), ends[-1] + 1) if share else ends[-1])
    if ends[-1] >= len(rows):
        taken = " and ".join(name for name, share in shares.items() if share)
        raise DataError(f"holdout: {taken} take all {len(rows)} rows; lower them or bring more rows")
    *parts, rest = np.split(order, ends[1:])
    return [*map(np.sort, parts), rest]


def _keys(dataset: Dataset) -> NDArray[np.str_]:
    if dataset.keys is None:
        raise DataError(
            f"holdout.client_test: {dataset.origin} does not say whose rows are set aside; "
            "name its client column, or give a share"
        )
    return dataset.keys


def _given(keys: NDArray[np.str_], dealt: dict[str, Rows], aside: Rows) -> dict[str, ClientRows]:
    """Each client with the rows that are set aside for it."""
    if not keeps_to_clients(keys, dealt):
        raise DataError(
            "holdout.client_test: rows are set aside for the data's own clients, and the partition makes others; "
            "use partition: {kind: natural}, or give a share"
        )
    tests = by_key(keys[aside], keys)
    return {name: _given_client(name, rows, aside[tests.get(name, [])]) for name, rows in dealt.items()}


def keeps_to_clients(keys: NDArray[np.str_] | None, dealt: Mapping[str, Rows]) -> bool:
    """Whether every client has rows of its own key alone."""
    return keys is not None and all(bool((keys[rows] == name).all()) for name, rows in dealt.items())


def _given_client(name: str, rows: Rows, tests: Rows) -> ClientRows:
    for part, use in ((rows, "to train on"), (tests, "set aside to test on")):
        if len(part) == 0:
            raise DataError(f"holdout.client_test: client {name!r} has no rows {use}; leave it out or give a share")
    return ClientRows(rows, tests)


def _divide_client(name: str, rows: Rows, numbers: NDArray[np.float64], below: float) -> ClientRows:
    if len(rows) < 2:
        raise DataError(
            f"partition: client {name!r} has {len(rows)} rows after those of the server's holdout and needs at least "
            "2, one to train and one to test on; leave it out, lower the holdout's shares or change the partition"
        )
    order = rows[np.argsort(numbers[rows], kind="stable")]
    tests = min(max(_below(numbers[rows], below), 1), len(rows) - 1)
    return ClientRows(np.sort(order[tests:]), np.sort(order[:tests]))


def _below(numbers: NDArray[np.float64], bound: float) -> int:
    return int(np.count_nonzero(numbers < bound))
