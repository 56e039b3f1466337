"""What is released once: all that an accountant needs to know of a mechanism, and nothing else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from federated.component import ByKind, Component
from federated.privacy.losses import Losses, losses_of

if TYPE_CHECKING:
    from dp_accounting import DpEvent

Unit = Literal["client", "record"]
"""What neighbouring data differ in: all that a client holds, or one of its rows."""

SamplingRate = Annotated[float, Field(gt=0, le=1, description="probability of each unit")]
NoiseMultiplier = Annotated[float, Field(ge=0, description="standard deviation of the noise over the clip norm")]

_DEVIATIONS = 20  # ten on each side: what is outside has a probability of 10⁻²³
_LARGEST = 700  # e to the power of more is no number
_RAREST = 1e-15  # what is as near to 1 as can be told is one less this
_AS_GOOD_AS_NONE = 1e-9


class Release(Component, ABC):
    """One noised answer. A unit (a client, or a record) that is added or removed changes what is noised by its norm."""

    noise_multiplier: NoiseMultiplier

    @property
    def rate(self) -> float:
        """The probability of each unit that it is counted with; 1 where nothing is gained by sampling."""
        return 1.0

    @property
    def noised(self) -> bool:
        """Whether there is any noise to speak of: without, it costs everything."""
        return self.noise_multiplier > _AS_GOOD_AS_NONE

    @property
    def whole_orders(self) -> bool:
        """Whether its Rényi divergence is bounded at whole orders only."""
        return False

    @abstractmethod
    def event(self) -> DpEvent:
        """The same in ``dp_accounting``'s terms; asked where it is ``noised``."""

    @property
    def interval(self) -> float:
        """How finely its losses are worth counting where they are neither small nor large."""
        return 1e-4

    @property
    def deviation(self) -> float:
        """Its loss's standard deviation, about."""
        return 1 / self.noise_multiplier

    def reach(self, times: int) -> float:
        """How far the losses of so many lie apart, about: what ever happens."""
        return _DEVIATIONS * math.sqrt(times) * self.deviation

    @abstractmethod
    def losses(self, interval: float) -> Losses | None:
        """Its privacy loss, in steps of ``interval``; None where it is not known. Asked where it is ``noised``."""

    def together(self, times: int) -> list[tuple[Release, int]]:
        """What costs as much as so many of them, and is quicker to count, or counted more tightly."""
        return [(self, times)]

    def resembling(self) -> Release:
        """What costs about the same, and is known by its Rényi divergences: to begin a search with."""
        return self

    @abstractmethod
    def covers(self, actual: Release) -> bool:
        """Whether ``actual`` costs no more, whatever it is composed with."""


class Gaussian(Release):
    """A sum with Gaussian noise, over units that each take part with probability ``sampling_rate`` (Poisson).

    ===========================  ==========================
    release                      costs
    ===========================  ==========================
    ``noise_multiplier: 0``      everything: infinite
    ``sampling_rate: 1``         no amplification: everybody takes part
    empty draw                   as much as any other: the noise is released all the same
    ===========================  ==========================
    """

    kind: Literal["gaussian"] = "gaussian"
    sampling_rate: SamplingRate = 1.0

    @property
    def rate(self) -> float:
        return self.sampling_rate

    def event(self) -> DpEvent:
        import dp_accounting

        noised = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        return noised if self.sampling_rate == 1 else dp_accounting.PoissonSampledDpEvent(self.sampling_rate, noised)

    @property
    def deviation(self) -> float:
        """√χ² bounds it where there is much noise; where there is little, a loss is next to nothing, or 1/2z²."""
        rate, inverse = self.sampling_rate, self.noise_multiplier**-2
        little = rate * ((1 - rate) * inverse**2 / 4 + inverse)
        return math.sqrt(min(rate**2 * math.expm1(min(inverse, _LARGEST)), little))

    def reach(self, times: int) -> float:
        """Of all together; and of what is composed, which may be long where it is seldom so."""
        return super().reach(times) + 2 * self._longest

    @property
    def _longest(self) -> float:
        """From the least loss that ever happens, or zero, to the largest."""
        present = self.noise_multiplier**-2 / 2 + _DEVIATIONS / 2 / self.noise_multiplier
        if self.sampling_rate == 1:
            return present
        absent = math.log1p(-self.sampling_rate)
        return float(np.logaddexp(absent, math.log(self.sampling_rate) + present)) - absent

    def losses(self, interval: float) -> Losses | None:
        return _losses(self, interval)

    def together(self, times: int) -> list[tuple[Release, int]]:
        """Without sampling, n are one of 1/√n of the noise: put together by powers of two, which recur."""
        if self.sampling_rate < 1:
            return [(self, times)]
        powers = [power for power in range(times.bit_length()) if times >> power & 1]
        return [
            (self.model_copy(update={"noise_multiplier": self.noise_multiplier * 2 ** (-power / 2)}), 1)
            for power in powers
        ]

    def covers(self, actual: Release) -> bool:
        return (
            isinstance(actual, Gaussian)
            and actual.noise_multiplier >= self.noise_multiplier
            and actual.sampling_rate <= self.sampling_rate
        )


class TruncatedGaussian(Release):
    """The same where of more than ``most`` units that were drawn, ``most`` are kept by chance (Feldman et al. 2025).

    Batches of a static shape need it. ``units`` is how many there are in all.
    """

    kind: Literal["truncated_gaussian"] = "truncated_gaussian"
    sampling_rate: SamplingRate
    units: int = Field(ge=1)
    most: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.most > self.units:
            raise ValueError(f"most must not exceed units, got {self.most} of {self.units}")
        return self

    @property
    def rate(self) -> float:
        return self.sampling_rate

    def event(self) -> DpEvent:
        import dp_accounting

        return dp_accounting.TruncatedSubsampledGaussianDpEvent(
            self.units, self.sampling_rate, self.most, self.noise_multiplier
        )

    @property
    def interval(self) -> float:
        return 5e-4  # its distribution is several times as long: six times faster, for 0.0003 of ε

    @property
    def deviation(self) -> float:
        return self.resembling().deviation

    def reach(self, times: int) -> float:
        return self.resembling().reach(times)

    def losses(self, interval: float) -> Losses | None:
        return _losses(self, interval)

    def resembling(self) -> Release:
        return Gaussian(noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate)

    def covers(self, actual: Release) -> bool:
        if not isinstance(actual, TruncatedGaussian) or actual.noise_multiplier < self.noise_multiplier:
            return False
        return actual.model_copy(update={"noise_multiplier": self.noise_multiplier}) == self


class Skellam(Release):
    """A sum of whole numbers with Skellam noise; one unit changes it by an L2 norm of at most ``units``.

    With variance μ of the noise in a coordinate, at whole orders α ≥ 2 (Agarwal, Kairouz, Liu 2021):

        RDP(α) ≤ α Δ₂² / 2μ + ((2α - 1) Δ₂² + 6 Δ₁) / 4μ²

    Here Δ₂ = ``units`` and μ = (``noise_multiplier`` · ``units``)². Of whole numbers Δ₁ ≤ Δ₂²: none is
    larger than its square. So nothing depends on how many coordinates there are. With many ``units`` it costs what
    Gaussian noise does.

    Its privacy loss has no known distribution, and nothing is gained by sampling: both would need a proof.
    """

    kind: Literal["skellam"] = "skellam"
    units: int = Field(ge=1, description="the clip norm in steps of the grid")

    @property
    def whole_orders(self) -> bool:
        return True

    def event(self) -> DpEvent:
        import dp_accounting

        squared, variance = float(self.units) ** 2, (self.noise_multiplier * self.units) ** 2
        rho = squared / (2 * variance) + 2 * squared / (4 * variance**2)
        return dp_accounting.ZCDpEvent(rho, xi=(6 * squared - squared) / (4 * variance**2))

    def losses(self, interval: float) -> Losses | None:
        return None

    def covers(self, actual: Release) -> bool:
        return (
            isinstance(actual, Skellam)
            and actual.noise_multiplier >= self.noise_multiplier
            and actual.units >= self.units
        )


@lru_cache(maxsize=64)
def _losses(release: Gaussian | TruncatedGaussian, interval: float) -> Losses | None:
    """Kept: to find one takes longer than to compose a thousand. None of units so rare that numbers do not tell."""
    from dp_accounting.pld import privacy_loss_distribution as library

    if release.sampling_rate < _RAREST:
        return None
    if isinstance(release, Gaussian):
        found = library.from_gaussian_mechanism(
            release.noise_multiplier, sampling_prob=release.sampling_rate, value_discretization_interval=interval
        )
    else:
        found = library.from_truncated_subsampled_gaussian_mechanism(
            release.units,
            release.sampling_rate,
            release.most,
            release.noise_multiplier,
            value_discretization_interval=interval,
        )
    return losses_of(found)


AnyRelease = Annotated[Gaussian | TruncatedGaussian | Skellam, Field(discriminator="kind"), ByKind()]
