"""Attackers that lie alone: they need to know nobody else's update."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from federated.attacks.attack import Attack, Seen
from federated.updates import Update


class SignFlip(Attack):
    """The update with the opposite sign, ``scale`` times as long (Li et al. 2019)."""

    kind: Literal["sign_flip"] = "sign_flip"
    scale: float = Field(default=1.0, gt=0)

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        return replace(own, delta=np.float32(-self.scale) * own.delta)


class Gaussian(Attack):
    """Noise in place of an update: each coordinate from N(0, ``deviation``²) (Blanchard et al. 2017)."""

    kind: Literal["gaussian"] = "gaussian"
    deviation: float = Field(gt=0, description="of each coordinate, in the units of an update")

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        return _noise(own, self.deviation, rng)


class FreeRider(Attack):
    """The global model sent back as if trained: an update of zeros, or of a little noise to disguise it.

    ``deviation`` is that of the noise on each coordinate (Lin et al. 2019; Fraboni et al. 2021). It claims
    the examples and numbers that honest training would have given.
    """

    kind: Literal["free_rider"] = "free_rider"
    deviation: float = Field(default=0.0, ge=0, description="of each coordinate, in the units of an update")

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        return _noise(own, self.deviation, rng)


def _noise(own: Update, deviation: float, rng: np.random.Generator) -> Update:
    """The update with noise in place of its vector; what it weighs and says of itself stays."""
    return replace(own, delta=np.float32(deviation) * rng.standard_normal(own.delta.size, np.float32))
