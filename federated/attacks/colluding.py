"""Attackers that know the honest updates, agree on one lie and all send it."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import Field

from federated.attacks.attack import Attack, Seen
from federated.updates import Update


class Alie(Attack):
    """μ - zσ in every coordinate: "a little is enough", near enough to pass (Baruch et al. 2019).

    μ and σ are the honest updates' mean and standard deviation, z is ``deviations``; null is the paper's z_max, with
    which a majority can form around the lie: the largest z with Φ(z) < (N - f - s) / (N - f), where s = ⌊N/2 + 1⌋ - f
    honest clients must be further out. (The paper's attackers estimate μ and σ from their own rows; these know them.)

    ==========================  ==========================
    cohort                      z
    ==========================  ==========================
    z_max is below 0            0: the honest mean
    attackers are the majority  as for s = 1
    ==========================  ==========================
    """

    kind: Literal["alie"] = "alie"
    deviations: float | None = Field(default=None, ge=0, description="null: the most that passes, by the paper")

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        if not seen.honest:
            return own
        z = most_that_passes(seen.honest, seen.attackers) if self.deviations is None else self.deviations
        return replace(own, delta=seen.mean - np.float32(z) * seen.deviation)


class InnerProduct(Attack):
    """The honest mean times -``factor``, so that a step goes the wrong way (Xie et al. 2020).

    With a small ``factor`` the lies lie close together and near zero, where rules by distance look for the honest; with
    a large one they turn a mean round.
    """

    kind: Literal["inner_product"] = "inner_product"
    factor: float = Field(default=0.5, gt=0)

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        return replace(own, delta=np.float32(-self.factor) * seen.mean) if seen.honest else own


def most_that_passes(honest: int, attackers: int) -> float:
    """z_max for so many clients of either kind."""
    needed = max((honest + attackers) // 2 + 1 - attackers, 1)
    share = (honest - needed) / honest
    return NormalDist().inv_cdf(share) if share > 0.5 else 0.0
