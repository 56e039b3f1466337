"""What a partition is, and what all that make clients up have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated

import numpy as np
from pydantic import Field

from federated.component import Component
from federated.data import Dataset, Rows
from federated.errors import DataError

Clients = Annotated[int, Field(ge=1)]
MinRows = Annotated[int, Field(ge=1, description="fewest rows of a client; with fewer the plan is refused")]


class Partition(Component, ABC):
    """Deals rows out to clients."""

    @property
    @abstractmethod
    def known_clients(self) -> int | None:
        """How many clients there will be, or None where only the data can tell."""

    @abstractmethod
    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        """``rows`` dealt out: each row to one client; clients and the rows of each are sorted.

        Raises:
            DataError: the data cannot be dealt out like that.
        """


def client(number: int, clients: int) -> str:
    """The name of a client that has been made up; names sort as numbers do."""
    return f"client-{number:0{len(str(clients - 1))}}"


def deal(kind: str, parts: list[Rows], min_rows: int, remedy: str) -> dict[str, Rows]:
    """``parts`` by the names of their clients, the rows of each sorted.

    Raises:
        DataError: a client has fewer than ``min_rows``. It is named, and so is the ``remedy``.
    """
    sizes = [len(part) for part in parts]
    smallest = int(np.argmin(sizes))
    if sizes[smallest] < min_rows:
        raise DataError(
            f"partition.{kind}.min_rows: client {client(smallest, len(parts))!r} has {sizes[smallest]} "
            f"of {sum(sizes)} rows and needs at least {min_rows}; {remedy}"
        )
    return {client(number, len(parts)): np.sort(part) for number, part in enumerate(parts)}
