"""A partition by the features: clients differ in what their examples look like."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.data import Dataset, Rows
from federated.partitions.partition import Clients, MinRows, Partition, deal

_SAMPLE = 1000  # rows: enough to find one direction, and decomposed in a second
_GRAIN = 1e-6  # deviations


class Features(Partition):
    """In equal parts along the features' first principal direction, but for a share ``alpha`` dealt at random.

    This is feature distribution skew, or covariate shift (Kairouz et al. 2021, section 3.1); it needs no classes. With
    ``alpha: 0`` the first client has the rows at one end and the last those at the other; with 1 all are alike.

    Features are standardised, so that units do not matter; constant ones do not count. The direction is that of 1000
    rows at random where there are more, its first large entry positive. Rows that lie within 1e-6 deviations of each
    other along it come in random order.
    """

    kind: Literal["features"] = "features"
    clients: Clients
    alpha: float = Field(default=0.0, ge=0, le=1, description="share of the rows that are dealt at random")
    min_rows: MinRows = 1

    @property
    def known_clients(self) -> int | None:
        return self.clients

    def split(self, dataset: Dataset, rows: Rows, rng: np.random.Generator) -> dict[str, Rows]:
        shuffled = rng.permutation(rows)
        mixed, skewed = np.split(shuffled, [round(self.alpha * len(rows))])
        places = _places(dataset.rows.x, shuffled, skewed)
        sorted_ = skewed[np.argsort(places, kind="stable")]
        pairs = zip(
            np.array_split(sorted_, self.clients),
            np.array_split(mixed, self.clients)[::-1],  # the odd rows of one from the front, of the other from the back
            strict=True,
        )
        return deal(self.kind, [np.concatenate(pair) for pair in pairs], self.min_rows, "lower clients or min_rows")


def _places(x: NDArray[np.float32], shuffled: Rows, asked: Rows) -> NDArray[np.float64]:
    """Where the rows ``asked`` for lie along the first principal direction, shape (asked,), in grains.

    Grains make equal what differs by rounding, which the number of cores would decide.
    """
    sample = _flat(x, shuffled[:_SAMPLE])
    mean, std = sample.mean(axis=0), sample.std(axis=0)
    varies = std > 1e-7 * np.abs(mean)
    scale = np.where(varies, 1 / np.where(varies, std, 1.0), 0.0)
    direction = _first_direction((sample - mean) * scale) * scale
    blocks = np.array_split(asked, len(asked) // _SAMPLE + 1)
    places = np.concatenate([(_flat(x, block) - mean) @ direction for block in blocks])
    spread = np.std((sample - mean) @ direction)
    return np.asarray(np.round(places / (spread * _GRAIN or 1.0)), np.float64)


def _first_direction(standardised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shape (features,), length 1."""
    direction = np.linalg.svd(standardised, full_matrices=False).Vh[0]
    large = np.flatnonzero(np.abs(direction) > 0.5 * np.abs(direction).max())
    return np.asarray(direction * np.sign(direction[large[0]]), np.float64)


def _flat(x: NDArray[np.float32], rows: Rows) -> NDArray[np.float64]:
    return x[rows].reshape(len(rows), x[0].size).astype(np.float64)
