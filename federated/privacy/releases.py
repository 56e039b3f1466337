"""What is released once: all that an accountant needs to know of a mechanism, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from federated.component import ByKind, Component

if TYPE_CHECKING:
    from dp_accounting import DpEvent

SamplingRate = Annotated[float, Field(gt=0, le=1, description="probability of each unit")]
NoiseMultiplier = Annotated[float, Field(ge=0, description="standard deviation of the noise over the clip norm")]


class Release(Component, ABC):
    """One noised answer. A unit (a client, or a record) that is added or removed changes what is noised by its norm."""

    @abstractmethod
    def event(self) -> DpEvent:
        """The same in ``dp_accounting``'s terms."""

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
    noise_multiplier: NoiseMultiplier
    sampling_rate: SamplingRate = 1.0

    def event(self) -> DpEvent:
        import dp_accounting

        if self.noise_multiplier == 0:
            return dp_accounting.NonPrivateDpEvent()
        noised = dp_accounting.GaussianDpEvent(self.noise_multiplier)
        return noised if self.sampling_rate == 1 else dp_accounting.PoissonSampledDpEvent(self.sampling_rate, noised)

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
    noise_multiplier: NoiseMultiplier
    sampling_rate: SamplingRate
    units: int = Field(ge=1)
    most: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.most > self.units:
            raise ValueError(f"most must not exceed units, got {self.most} of {self.units}")
        return self

    def event(self) -> DpEvent:
        import dp_accounting

        if self.noise_multiplier == 0:
            return dp_accounting.NonPrivateDpEvent()
        return dp_accounting.TruncatedSubsampledGaussianDpEvent(
            self.units, self.sampling_rate, self.most, self.noise_multiplier
        )

    def covers(self, actual: Release) -> bool:
        if not isinstance(actual, TruncatedGaussian) or actual.noise_multiplier < self.noise_multiplier:
            return False
        return actual.model_copy(update={"noise_multiplier": self.noise_multiplier}) == self


AnyRelease = Annotated[Gaussian | TruncatedGaussian, Field(discriminator="kind"), ByKind()]
