"""How far rows have moved from those that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Component
from federated.scaling import Affine

# The mean lies in the middle of a bin: a feature that never changes stays in it, whatever rounding does.
_EDGES = np.arange(-2.25, 2.5, 0.5)
_SMALLEST = 1e-4  # the share that an empty bin is taken to have


class DriftLimits(Component):
    """When a model is trained again: a feature's stability index above ``psi``, or a score worse by ``worse_by``."""

    psi: float = Field(default=0.25, gt=0)
    worse_by: float = Field(default=0.05, ge=0)


Counts = NDArray[np.int64]
"""Rows by feature and bin: shape (features, bins)."""


class Reference(NamedTuple):
    """Bins for each feature, shape (features, bins - 1), and the rows that fell into them: counts, no rows."""

    edges: NDArray[np.float64]
    counts: Counts


def reference(moments: Affine, parts: Iterable[NDArray[np.float32]]) -> Reference:
    """Eleven bins a feature, half a deviation wide and open at both ends, and the counts of all parts' rows.

    ``moments`` has the mean and the deviation of each feature; ``parts`` are clients' rows, shape (rows, *features).
    """
    mean, std = moments.mean.reshape(-1, 1), moments.std.reshape(-1, 1)
    edges = (mean + std * _EDGES).astype(np.float64)
    return Reference(edges, sum((count(edges, part) for part in parts), np.zeros((len(edges), len(_EDGES) + 1), int)))


def count(edges: NDArray[np.float64], rows: NDArray[np.float32]) -> Counts:
    """How many rows lie in each bin of each feature, shape (features, bins)."""
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    bins = np.stack([np.searchsorted(feature, flat[:, place]) for place, feature in enumerate(edges)], axis=1)
    counts = np.zeros((len(edges), edges.shape[1] + 1), np.int64)
    np.add.at(counts, (np.broadcast_to(np.arange(len(edges)), bins.shape), bins), 1)
    return counts


def stability(expected: Counts, found: Counts) -> NDArray[np.float64]:
    """The population stability index of each feature, Σ (q - p) ln(q / p) over its bins, shape (features,).

    Below 0.1 nothing has moved, above 0.25 much has (Siddiqi 2006, *Credit Risk Scorecards*). Small samples move by
    chance: with n rows and k bins expect about (k - 1) / n.

    Raises:
        ValueError: there are no rows, or the bins are others.
    """
    if expected.shape != found.shape:
        raise ValueError(f"expected {expected.shape[0]} features in {expected.shape[1]} bins, got {found.shape}")
    if not expected.sum() or not found.sum():
        raise ValueError("a stability index needs rows on both sides")
    before, now = _shares(expected), _shares(found)
    return np.sum((now - before) * np.log(now / before), axis=1)  # type: ignore[no-any-return]


def _shares(counts: Counts) -> NDArray[np.float64]:
    shares = np.maximum(counts / counts.sum(axis=1, keepdims=True), _SMALLEST)
    return shares / shares.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
