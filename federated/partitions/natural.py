"""The parties that the data name themselves."""

from __future__ import annotations

from typing import Literal

import numpy as np

from federated.data import Dataset, Rows, by_key
from federated.errors import DataError
from federated.partitions.partition import Partition


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
                "name its client column, or use another partition, such as iid"
            )
        return {name: np.sort(rows[places]) for name, places in by_key(dataset.keys[rows], dataset.keys).items()}
