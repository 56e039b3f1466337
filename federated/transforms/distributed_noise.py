"""Noise that clients add in parts, of whole numbers: together it hides each of them in the cohort's sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import Step, Vector
from federated.privacy.releases import Release, Skellam
from federated.randomness import POISSON_MEANS, poisson, secret_uniforms
from federated.transforms.noising import NOISE_FOUND, finite_or_zero, measured
from federated.transforms.transform import Layers, NoisedBy, Transform
from federated.updates import Update

_STEPS = "steps"


class DistributedSkellam(Transform):
    """Client-level differential privacy of a cohort's sum, by whole numbers that each client adds (Skellam noise).

    An update is scaled down to an L2 norm of at most ``norm``, counted in steps of ``norm`` / 2^``bits``, and every
    coordinate is rounded towards zero. The client adds the difference of two Poisson numbers, and sends int64 (Agarwal,
    Kairouz, Liu 2021). Such noise adds up to noise of the same kind: that of any ``least`` clients has together a
    standard deviation of ``noise_multiplier`` · ``norm``. It comes from the operating system's entropy; with
    ``seeded``, for simulations only, from the plan's seed.

    Guarantees: whoever sees sums of ``least`` messages or more, and who is in them, learns of a client no more than
    (ε, δ) from each. Its data or none, which is a zero update in their place, change a sum by an L2 norm of at most
    2^``bits`` steps: rounding towards zero makes no coordinate larger, and the norm is checked in whole numbers. Who is
    in a sum is not hidden, so that sampling gains nothing. Weight, steps, loss and metrics do not leave the client.

    It needs sums that nobody can look into. A server that sees single messages sees one part of the noise in ``least``
    in each, and must be trusted as with ``central_gaussian``. Clients who tell others their own noise take it away: do
    not count them in ``least``.

    =========================  ==========================
    edge case                  answer
    =========================  ==========================
    zero update                zero steps, and noised like any other
    NaN or infinite            as zero: that training failed is hidden, too
    a client that drops        takes its part of the noise away: those who are left are counted
    cohort of one, of none     as fewer than ``least``, unless that is 1
    fewer than ``least``       the round is refused before anything is summed: their noise is less than was paid for
    more than ``least``        more noise: the round's ``noise_multiplier_effective`` says how much
    messages beyond 2²⁴ steps  float32 rounds them. Only whole numbers, as secure aggregation adds them, stay exact
    ``norm``: 0 or ∞           refused: nothing would be learnt, or nothing hidden
    no noise                   refused: ``clip`` does that
    noise of very few steps    refused, and that of very many: it could not be drawn well
    =========================  ==========================
    """

    kind: Literal["distributed_skellam"] = "distributed_skellam"
    norm: float = Field(gt=0, description="largest L2 norm of an update")
    noise_multiplier: float = Field(gt=0, description="standard deviation of the noise of least clients over the norm")
    least: int = Field(ge=1, description="the smallest cohort that may survive a round")
    bits: int = Field(default=16, ge=8, le=24, description="the clip norm has 2^bits steps")
    seeded: bool = Field(default=False, description="noise from the plan's seed: in simulations only")

    @model_validator(mode="after")
    def _noise_can_be_drawn(self) -> Self:
        low, high = POISSON_MEANS
        if not low <= self._mean <= high:
            few = self._mean < low
            raise ValueError(
                f"a client's noise has a variance of {2 * self._mean:.3g} steps², expected {2 * low:.3g} to "
                f"{2 * high:.3g}; {'raise' if few else 'lower'} bits, which are {self.bits}"
            )
        return self

    @property
    def secret(self) -> bool:
        return not self.seeded

    @property
    def noised_by(self) -> NoisedBy:
        return "clients"

    @property
    def survivors(self) -> int:
        return self.least

    @property
    def _units(self) -> int:
        return int(2**self.bits)

    @property
    def _mean(self) -> float:
        """Of either Poisson number of a client: half the variance of its noise, in steps."""
        return (self.noise_multiplier * self._units) ** 2 / (2 * self.least)

    def release(self, sampling_rate: float) -> Release | None:
        return Skellam(noise_multiplier=self.noise_multiplier, units=self._units)

    def init(self, size: int) -> Any:
        """What was released last, shape (trainable,): noise that cannot be drawn again is kept with the round."""
        return np.zeros(size, np.float32) if self.secret else None

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        steps = in_steps(finite_or_zero(update.delta), self.norm, self._units) + self._noise(update.delta.size, rng)
        return replace(update, delta=np.zeros(0, np.float32), extras=update.extras | {_STEPS: steps})

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        """In units of ``norm``: by a power of two, so that sums of updates are those of their steps."""
        extras = dict(update.extras)
        return replace(update, delta=(extras.pop(_STEPS) / self._units).astype(np.float32), extras=extras)

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        released = (aggregate * self.norm).astype(np.float32)
        effective = self.noise_multiplier * math.sqrt(len(updates) / self.least)
        metrics = {"noise_multiplier_effective": effective, "noise_deviation": effective * self.norm * share}
        return Step(released if self.secret else None, released, metrics)

    def again(self, state: Any) -> Transform:
        return self if self.seeded else _DrawnBefore(**self.model_dump(), released=state)

    def _noise(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        draw = secret_uniforms if self.secret else rng.random
        return poisson(self._mean, size, draw) - poisson(self._mean, size, draw)


class _DrawnBefore(DistributedSkellam):
    """The same, with the noise of a round that is over: ``released`` is what came of it."""

    released: Any

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        done = super().finish(state, aggregate, updates, rng, share)
        found = measured(self.released, done.result, done.metrics["noise_deviation"]) * self.noise_multiplier
        return Step(self.released, self.released, done.metrics | {NOISE_FOUND: found})

    def _noise(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.zeros(size, np.int64)


def in_steps(vector: Vector, norm: float, units: int) -> NDArray[np.int64]:
    """The vector in steps of ``norm`` / ``units``, rounded towards zero; its L2 norm is at most ``units``, exactly."""
    exact = vector.astype(np.float64)
    factor = units / max(float(np.sqrt(exact @ exact)), norm)
    while True:
        steps = np.trunc(exact * factor).astype(np.int64)
        if int(steps @ steps) <= units**2:
            return steps
        factor *= 1 - 2.0**-40  # the division was rounded up
