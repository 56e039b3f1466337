"""A given split: rows that a table's clients set apart for testing, as papers did."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Component
from federated.data import Rows, by_key
from federated.errors import DataError


class Apart(Component):
    """Rows drawn for testing from each client's, by scikit-learn's ``train_test_split``.

    Where nobody's name is on rows, they are drawn from all. ``test`` is their share, rounded up. The draw goes by the
    rows' places in the table, not by their values: where rows are added, all are dealt anew. Shares in ``holdout`` do
    better in recurring training; this repeats a paper's split.

    | ``stratify`` | each class has its share of the test rows |
    | --- | --- |
    | ``where_possible`` | at clients with more than two rows of every class, as in FLamby (du Terrail et al. 2022) |
    | ``always`` | at all clients; one with a single row of a class is refused |
    | ``never`` | at none |
    """

    test: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0, lt=2**32)
    stratify: Literal["where_possible", "always", "never"] = "where_possible"

    def reserve(
        self, field: str, targets: NDArray[np.int32] | None, classes: int, keys: NDArray[np.str_]
    ) -> NDArray[np.bool_]:
        """True for rows set apart, shape (rows,); ``targets`` are class numbers, or None where there are no classes.

        Raises:
            DataError: a client has too few rows, or too few of a class.
        """
        reserved = np.zeros(len(keys), np.bool_)
        for client, rows in by_key(keys, keys).items():
            strata = None if targets is None else self._strata(field, client, targets[rows], classes)
            reserved[self._drawn(field, client, rows, strata)] = True
        return reserved

    def _strata(self, field: str, client: str, targets: NDArray[np.int32], classes: int) -> NDArray[np.int32] | None:
        counts = np.bincount(targets, minlength=classes)
        if self.stratify == "always" and 1 in counts:
            raise DataError(
                f"{field}: client {client!r} has 1 row of class number {int(np.argmax(counts == 1))}, and stratify: "
                "always needs at least 2; use where_possible"
            )
        wanted = self.stratify == "always" or (self.stratify == "where_possible" and counts.min() > 2)
        return targets if wanted else None

    def _drawn(self, field: str, client: str, rows: Rows, strata: NDArray[np.int32] | None) -> Rows:
        from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

        try:
            _, test = train_test_split(rows, test_size=self.test, random_state=self.seed, stratify=strata)
        except ValueError as error:
            raise DataError(
                f"{field}: the {len(rows)} rows of client {client!r} cannot be split ({str(error).rstrip('.')})"
            ) from error
        return np.asarray(test, np.int64)
