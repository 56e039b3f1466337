"""Values that rows lack, filled in from the rows that are trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from federated.data import Blanks, Dataset, Rows, Split, feature
from federated.errors import DataError


def filled(dataset: Dataset, train: Rows) -> Split:
    """The rows with every blank filled by what the ``train`` rows of all clients have in that feature.

    Counts and sums find a mean; a median needs the values themselves, which real parties may not want to show.

    Raises:
        DataError: none of them has a value there.
    """
    blanks, rows = dataset.blanks, dataset.rows
    if blanks is None or not blanks.where.any():
        return rows
    fillers = np.where(blanks.where.any(axis=0), _fillers(dataset, blanks, train), 0)
    return Split(np.where(blanks.where, fillers.astype(np.float32), rows.x), rows.y)


def _fillers(dataset: Dataset, blanks: Blanks, train: Rows) -> NDArray[np.float64]:
    empty = blanks.where[train].all(axis=0)
    if empty.any():
        raise DataError(
            f"{dataset.origin}: no training row has a value in "
            f"{feature(int(np.flatnonzero(empty)[0]), dataset.features)} to take the {blanks.by} of; leave it out"
        )
    known = np.where(blanks.where[train], np.nan, dataset.rows.x[train].astype(np.float64))
    return np.asarray(np.nanmean(known, axis=0) if blanks.by == "mean" else np.nanmedian(known, axis=0))
