"""Differentially private stochastic gradient descent: every record of a client is hidden from all others."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Component
from federated.privacy.releases import Gaussian, Release, TruncatedGaussian


class Draws(NamedTuple):
    """Which rows are in the batch of each step, and 1 where one is: both of shape (steps, most)."""

    places: NDArray[np.int32]
    counts: NDArray[np.float32]


class DpSgd(Component):
    """Each step: examples drawn by themselves, their gradients clipped and added up, and noise (Abadi et al. 2016).

    An example is in a batch with probability ``batch_size`` / rows. Its gradient is scaled down to an L2 norm of at
    most ``norm``. Noise of standard deviation ``noise_multiplier`` · ``norm`` is added to their sum, and that divided
    by ``batch_size``, however many there were. Of more than ``most`` examples in a batch, ``most`` are kept by chance,
    so that batches have one shape; null is five deviations above ``batch_size``. The number of a client's rows is not
    hidden.

    Draws and noise come from the operating system's entropy; with ``seeded``, for simulations only, from the plan's
    seed.

    ===================  ==========================
    edge case            answer
    ===================  ==========================
    empty draw           noise alone, and paid for like any other
    ``batch_size`` ≥ rows  all rows in every step: no amplification
    zero gradient        zero, and noised like any other
    NaN or infinite      the example counts as zero: to fail would tell of it
    a client that drops  its steps are paid for: other clients' records are hidden by their own noise
    ``norm``: 0 or ∞     refused: nothing would be learnt, or nothing hidden
    no noise             refused: ``clip_examples`` does that
    ===================  ==========================
    """

    norm: float = Field(gt=0, description="largest L2 norm of an example's gradient")
    noise_multiplier: float = Field(gt=0, description="standard deviation of the noise over the clip norm")
    most: int | None = Field(
        default=None, ge=1, description="largest batch; null: five deviations above the batch size"
    )
    seeded: bool = Field(default=False, description="draws and noise from the plan's seed: in simulations only")

    def width(self, batch: int, rows: int) -> int:
        """The largest batch of a client with so many rows."""
        return min(self.most or batch + math.ceil(5 * math.sqrt(batch)), rows)

    def release(self, batch: int, rows: int) -> Release:
        """What one step costs a record of a client with so many rows."""
        if batch >= rows:
            return Gaussian(noise_multiplier=self.noise_multiplier)
        return TruncatedGaussian(
            noise_multiplier=self.noise_multiplier, sampling_rate=batch / rows, units=rows, most=self.width(batch, rows)
        )

    def draw(self, batch: int, rows: int, steps: int, rng: np.random.Generator) -> Draws:
        """The batches of a client's local training."""
        width = rows if batch >= rows else self.width(batch, rows)
        places, counts = np.zeros((steps, width), np.int32), np.zeros((steps, width), np.float32)
        for step in range(steps):
            drawn = np.arange(rows) if batch >= rows else np.flatnonzero(rng.random(rows) < batch / rows)
            kept = rng.choice(drawn, width, replace=False) if len(drawn) > width else drawn
            places[step, : len(kept)], counts[step, : len(kept)] = kept, 1
        return Draws(places, counts)
