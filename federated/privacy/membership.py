"""Membership inference: whose rows a model was trained on, told by how well it knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from federated.privacy.auditing import Floats

FALSE_POSITIVE_RATES = (0.001, 0.01)
"""Low ones: an attack that is right about a few rows, and sure of it, does harm (Carlini et al. 2022)."""


class Membership(NamedTuple):
    """What an attacker finds: the share of members at each rate of false positives, and the most it is ahead by.

    ``advantage`` is the largest difference of true and false positive rate (Yeom et al. 2018): 0 is
    guessing, 1 is knowing.
    """

    true_positive_rates: dict[float, float]
    advantage: float


def by_loss(
    members: ArrayLike, others: ArrayLike, false_positive_rates: Sequence[float] = FALSE_POSITIVE_RATES
) -> Membership:
    """The attack that takes a row for a member if the model's loss on it is below a threshold (Yeom et al. 2018).

    ``members`` and ``others`` are losses of rows the model was trained on, and of such rows it never saw, of shapes
    (members,) and (others,). The threshold is the highest with at most the wanted share of others below it: at 0.1 %
    with fewer than 1,000 others, none.

    Raises:
        ValueError: no members or no others, a loss is NaN, or a rate is outside [0, 1).
    """
    inside, outside = _sorted("members", members), _sorted("others", others)
    if not all(0 <= rate < 1 for rate in false_positive_rates):
        raise ValueError(f"expected false positive rates of at least 0 and below 1, got {list(false_positive_rates)}")
    found = {rate: _below(inside, outside[int(rate * outside.size + 1e-9)]) for rate in false_positive_rates}
    return Membership(found, _advantage(inside, outside))


def _advantage(inside: Floats, outside: Floats) -> float:
    """Over all thresholds: just above a member's loss, there is the most to win."""
    true = np.searchsorted(inside, inside, side="right") / inside.size
    false = np.searchsorted(outside, inside, side="right") / outside.size
    return float(np.max(true - false, initial=0.0))


def _below(losses: Floats, threshold: float) -> float:
    return int(np.searchsorted(losses, threshold, side="left")) / losses.size


def _sorted(name: str, losses: ArrayLike) -> Floats:
    found: NDArray[np.float64] = np.sort(np.asarray(losses, np.float64).ravel())
    if not found.size or np.isnan(found).any():
        raise ValueError(f"{name}: expected one loss or more, and none of them NaN; got {found.size} losses")
    return found
