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


class DriftLimits(Component):
    """When a model is trained again.

    A feature's stability index, less what chance gives, is above ``psi``, or a score is worse by ``worse_by``.
    """

    psi: float = Field(default=0.25, gt=0)
    worse_by: float = Field(default=0.05, ge=0)


_AT_ONCE = 1024  # rows counted together: bounds memory

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
    flat, bins = rows.reshape(len(rows), -1).astype(np.float64), edges.shape[1] + 1
    counts = np.zeros(len(edges) * bins, np.int64)
    for start in range(0, len(flat), _AT_ONCE):
        above = (edges < flat[start : start + _AT_ONCE, :, None]).sum(axis=-1)
        counts += np.bincount((above + np.arange(len(edges)) * bins).ravel(), minlength=len(counts))
    return counts.reshape(-1, bins)


def stability(expected: Counts, found: Counts) -> NDArray[np.float64]:
    """The population stability index of each feature, Σ (q - p) ln(q / p) over its bins, shape (features,).

    Below 0.1 nothing has moved, above 0.25 much has (Siddiqi 2006, *Credit Risk Scorecards*).

    Raises:
        ValueError: there are no rows, or the bins are others.
    """
    if expected.shape != found.shape:
        raise ValueError(f"expected {expected.shape[0]} features in {expected.shape[1]} bins, got {found.shape}")
    if not expected.sum() or not found.sum():
        raise ValueError("a stability index needs rows on both sides")
    before, now = _shares(expected, found), _shares(found, expected)
    return np.sum((now - before) * np.log(now / before), axis=1)  # type: ignore[no-any-return]


def allowance(expected: Counts, found: Counts) -> NDArray[np.float64]:
    """The index to expect of each feature though nothing has moved, (k - 1) (1/n + 1/m), shape (features,).

    n and m are the rows on both sides, k the bins that any of them is in (Yurdakul 2018, *Statistical properties of
    the population stability index*, Western Michigan University).
    """
    bins = np.count_nonzero(expected + found, axis=1)
    return np.asarray((bins - 1) * (1 / expected.sum(axis=1) + 1 / found.sum(axis=1)), np.float64)


def moved(expected: Counts, found: Counts) -> NDArray[np.float64]:
    """The stability index of each feature less what chance gives, at least 0, shape (features,).

    Raises:
        ValueError: there are no rows, or the bins are others.
    """
    return np.maximum(stability(expected, found) - allowance(expected, found), 0)


def _shares(counts: Counts, others: Counts) -> NDArray[np.float64]:
    """Each bin's share of the rows; all above 0.

    An empty bin has half a row, or the other side's share where that is less; with a fixed share instead, bins that a
    small sample misses by chance weigh many times what ``allowance`` takes off.
    """
    rows = counts.sum(axis=1, keepdims=True)
    least = np.minimum(0.5 / rows, others / others.sum(axis=1, keepdims=True))
    shares = np.where(counts > 0, counts / rows, least)
    return np.where(counts + others > 0, shares, 1.0)  # in a bin that nobody is in nothing moves
