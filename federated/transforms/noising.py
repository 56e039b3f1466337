"""Noise that hides single clients: differential privacy, whose cost the plan's ledger counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Step, Vector
from federated.privacy.releases import Gaussian, Release
from federated.randomness import secret_normals
from federated.transforms.clipping import Clip
from federated.transforms.transform import NoisedBy, Transform
from federated.updates import Update

_GRID = 2.0**-30  # of the noise's standard deviation
_CHUNK = 16_384  # coordinates

NOISE_FOUND = "noise_multiplier_found"
"""How strong the noise of a round was that is done again, measured."""


class ClippedNoise(Clip):
    """What Gaussian noise on clipped updates has in common, whoever adds it."""

    noise_multiplier: float = Field(gt=0, description="standard deviation of the noise over the clip norm")
    seeded: bool = Field(default=False, description="noise from the plan's seed: in simulations only")

    @property
    def secret(self) -> bool:
        return not self.seeded

    def init(self, size: int) -> Any:
        """The last aggregate, shape (trainable,): what cannot be drawn again is kept with the round."""
        return np.zeros(size, np.float32) if self.secret else None


class CentralGaussian(ClippedNoise):
    """Client-level differential privacy on the server: clips every update, and noises their sum once.

    An update is scaled down to an L2 norm of at most ``norm``. Gaussian noise with a standard deviation of
    ``noise_multiplier`` · ``norm`` is added to the sum of updates: to the aggregate, as much times the rule's ``share``
    (McMahan et al. 2018, algorithm 1). It comes from the operating system's entropy; with ``seeded``, for simulations
    only, from the plan's seed, so that a training can be repeated.

    Aggregate and noise are rounded to a grid of 2⁻³⁰ standard deviations before they are added, so that the low bits of
    a float tell nothing (Mironov 2012); before that, the rule has added updates up in float64.

    =====================  ==========================
    edge case              answer
    =====================  ==========================
    zero update            zero, and noised like any other
    NaN or infinite        the round leaves it out: it counts as zero
    cohort of one, of none  the sum of those, noised alike: the noise hides how many there were
    a client that drops    the same
    ``norm``: 0 or ∞       refused: nothing would be learnt, or nothing hidden
    no noise               refused: ``clip`` does that
    =====================  ==========================
    """

    kind: Literal["central_gaussian"] = "central_gaussian"  # type: ignore[assignment]

    @property
    def noised_by(self) -> NoisedBy:
        return "server"

    def release(self, sampling_rate: float) -> Release | None:
        return Gaussian(noise_multiplier=self.noise_multiplier, sampling_rate=sampling_rate)

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        deviation = self.deviation(share)
        draw = secret_normals if self.secret else rng.standard_normal
        noised = with_noise(aggregate, deviation, draw)
        return Step(noised if self.secret else None, noised, {"noise_deviation": deviation})

    def deviation(self, share: float) -> float:
        """The standard deviation of the noise in a coordinate of the aggregate."""
        return self.noise_multiplier * self.norm * share

    def again(self, state: Any) -> Transform:
        if self.seeded:
            return self
        return _DrawnBefore(norm=self.norm, noise_multiplier=self.noise_multiplier, noised=state)


class _DrawnBefore(CentralGaussian):
    """The same, with the noise of a round that is over: ``noised`` is what it released."""

    noised: Any

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        found = measured(self.noised, aggregate, self.deviation(share)) * self.noise_multiplier
        return Step(self.noised, self.noised, {NOISE_FOUND: found})


def finite_or_zero(vector: Vector) -> Vector:
    """The vector, or zeros in its place where one of its numbers is NaN or infinite: what noise on it must hide."""
    return vector if np.isfinite(vector).all() else np.zeros_like(vector)


def with_noise(vector: Vector, deviation: float, draw: Callable[[int], NDArray[np.float64]]) -> Vector:
    """The vector plus Gaussian noise, on a grid (Mironov 2012); ``draw`` gives standard normal numbers.

    Chunk by chunk, which stay in a core's cache.
    """
    noised = np.empty(vector.shape, np.float32)
    for start in range(0, vector.size, _CHUNK):
        chunk = vector[start : start + _CHUNK]
        noised[start : start + _CHUNK] = on_grid(chunk, draw(chunk.size), deviation)
    return noised


def on_grid(vector: Vector, noise: NDArray[np.float64], deviation: float) -> Vector:
    """The sum of a vector and noise, which is in units of ``deviation``, both on a grid (Mironov 2012)."""
    grid = deviation * _GRID
    return ((np.rint(vector.astype(np.float64) / grid) + np.rint(noise / _GRID)) * grid).astype(np.float32)


def measured(noised: Vector, aggregate: Vector, deviation: float) -> float:
    """How large noise is, found by taking the aggregate away again, over what it should be; 1 of no coordinates."""
    drawn = (noised.astype(np.float64) - aggregate) / deviation
    return float(np.sqrt(np.mean(drawn**2))) if drawn.size else 1.0
