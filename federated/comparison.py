"""How much worse one model is than another, row by row, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from federated.engine import SMALLER_IS_BETTER, Scores
from federated.errors import DataError, PlanError

BLOCK = 2**20
"""Rows that a bootstrap draws at once, which bounds its memory to about 16 MiB."""


def measured(where: str, scores: Scores, metric: str) -> NDArray[np.float64]:
    """One metric of one model, shape (rows,).

    Raises:
        PlanError: the metric was not measured.
        DataError: it is not one number a row, of one row or more.
    """
    if metric not in scores:
        raise PlanError(f"{where}: expected {metric} among the scores, got {', '.join(scores) or 'none'}; name another")
    values = np.asarray(scores[metric], np.float64)
    if values.ndim != 1 or not values.size:
        raise DataError(f"{where}: expected one number a test row, got shape {values.shape}; hold out test rows")
    return values


def losses(where: str, metric: str, candidate: Scores, champion: Scores) -> NDArray[np.float64]:
    """How much worse the candidate is on each row, in the metric's own unit, shape (rows,).

    Infinite where either model's score is NaN or infinite, so that no mean over such a row looks good.

    Raises:
        PlanError: the metric was not measured.
        DataError: the models were not scored on the same rows.
    """
    ours, theirs = measured(where, candidate, metric), measured(where, champion, metric)
    if len(ours) != len(theirs):
        raise DataError(
            f"{where}: expected both models on the same rows, got {len(ours)} of the candidate "
            f"and {len(theirs)} of the champion; score both again on one set"
        )
    comparable = np.isfinite(ours) & np.isfinite(theirs)
    sign = 1.0 if SMALLER_IS_BETTER[metric] else -1.0
    lost = np.full(len(ours), np.inf)
    lost[comparable] = sign * (ours[comparable] - theirs[comparable])
    return lost


def client_losses(
    where: str, metric: str, candidate: Mapping[str, Scores], champion: Mapping[str, Scores]
) -> dict[str, float]:
    """The mean of ``losses`` of each client that has test rows, by client.

    Raises:
        PlanError: the metric was not measured.
        DataError: no client has test rows, or the models were not scored on the same ones.
    """
    ours, theirs = _with_rows(candidate), _with_rows(champion)
    if not ours | theirs:
        raise DataError(f"{where}: expected clients with test rows, got none; hold out some rows of the clients")
    # A client that only one of them was scored on could be the one that got worst.
    if odd := sorted(ours ^ theirs):
        raise DataError(
            f"{where}: expected both models on the same clients' rows, got only one of them on {', '.join(odd)}; "
            "score both again on one set"
        )
    return {
        client: float(losses(f"{where} of {client}", metric, candidate[client], champion[client]).mean())
        for client in sorted(ours)
    }


def upper_bound(values: NDArray[np.float64], confidence: float, resamples: int, rng: np.random.Generator) -> float:
    """The one-sided upper confidence bound of a mean: a BCa bootstrap (Efron & Tibshirani 1993, section 14.3).

    Plain percentiles of the resampled means are too low where a few rows lose much, which is how models fail; BCa
    corrects them for bias and skewness. ``values`` have shape (rows,).

    Guarantees: at least the true mean with probability ``confidence``, approximately. A bootstrap knows only what
    occurred: what truly happens to fewer than 3 in n rows may be absent from n, and the bound is then too low.

    ===================  ===============
    values               bound
    ===================  ===============
    all equal, or one    that value
    one is infinite      infinite
    ===================  ===============
    """
    if not np.isfinite(values).all():
        return float("inf")
    if values.min() == values.max():
        return float(values[0])
    means = _resampled_means(values, resamples, rng)
    # "higher": between two resampled means, the bound is the larger.
    return float(np.quantile(means, _level(values, means, confidence), method="higher"))


def _with_rows(clients: Mapping[str, Scores]) -> set[str]:
    return {client for client, scores in clients.items() if any(np.size(values) for values in scores.values())}


def _resampled_means(values: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means of as many rows, drawn with replacement, shape (resamples,)."""
    means, step = np.empty(resamples), max(1, BLOCK // len(values))
    for start in range(0, resamples, step):
        block = means[start : start + step]
        block[:] = values[rng.integers(len(values), size=(len(block), len(values)))].mean(axis=1)
    return means


def _level(values: NDArray[np.float64], means: NDArray[np.float64], confidence: float) -> float:
    """Which quantile of the resampled means is the bound (equation 14.10, with 14.14 and 14.15)."""
    normal, mean = NormalDist(), values.mean()
    below = ((means < mean).mean() + (means <= mean).mean()) / 2  # the middle of ties, which 0/1 scores have many of
    # Values that differ by rounding alone can leave no mean on one side, and an infinite quantile.
    bias = normal.inv_cdf(float(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means))))
    deviations = values - mean
    acceleration = float((deviations**3).sum() / (6 * (deviations**2).sum() ** 1.5))  # a mean's jackknife, closed form
    z = bias + normal.inv_cdf(confidence)
    return normal.cdf(bias + z / max(1 - acceleration * z, 1e-9))
