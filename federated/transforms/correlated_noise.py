"""Noise that later rounds take back in part: differential privacy without sampling, for a training as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import Step, Vector
from federated.errors import TrainingError
from federated.privacy.prefix_sums import inverse, sensitivity
from federated.privacy.releases import Gaussian, Release
from federated.transforms.clipping import Clip
from federated.transforms.transform import NoisedBy, Sized
from federated.updates import Update


class Noised(NamedTuple):
    """What a training has released so far: how often, with noise from which ``key``, sized how, and of whom how often.

    Whoever has the key can take the noise away.
    """

    releases: int
    key: int
    terms: tuple[float, ...]
    taken: Mapping[str, int]


class CorrelatedGaussian(Clip):
    """Client-level differential privacy by correlated noise: DP-FTRL (Kairouz et al. 2021; Choquette-Choo et al. 2023).

    An update is scaled down to an L2 norm of at most ``norm``. In round t the server adds the noise

        Σ_{k ≤ t} c⁻¹_{t-k} z_k

    to the aggregate, where c⁻¹ inverts the square root of the prefix sums' matrix (``federated.privacy.prefix_sums``).
    z_k has a standard deviation of ``noise_multiplier`` · ``norm`` · s in a coordinate of the sum of updates; s is the
    sensitivity of ``rounds`` rounds, in at most ``participations`` of which a client takes part. Rounds take back a
    part of what earlier ones added: in the sum of all aggregates, which is how far a plain average moves the model,
    noise grows with the logarithm of the rounds where a client is in one of them; independent noise with their root.

    Guarantees: the aggregates of all rounds together are one Gaussian mechanism with ``noise_multiplier``, also
    where each depends on those before (Denisov et al. 2022). Neighbours: all updates of one client in a training, or
    zero updates in their place. Who takes part must not depend on data, and is not hidden. Nothing is sampled.

    Simulations only: noise of earlier rounds is drawn again in every round, from a key that is part of the state, and
    so of every version. A secret one would have to be kept where no version shows it; until then ``seeded: false`` is
    refused. A round t draws t vectors.

    ==============================  ==========================
    edge case                       answer
    ==============================  ==========================
    zero update                     zero, and noised like any other
    NaN or infinite                 the round leaves it out: it counts as zero
    nobody in the cohort            noise all the same
    a round beyond ``rounds``       refused before it releases anything; so is a plan with more rounds
    a client beyond                 refused before anything is released; so is a plan whose selection would let one
    ``participations``              in too often
    sized otherwise than before     refused: the rounds would no longer be one mechanism
    ``participations: 1``           a client is in one round: the least noise
    ==============================  ==========================
    """

    kind: Literal["correlated_gaussian"] = "correlated_gaussian"  # type: ignore[assignment]
    noise_multiplier: float = Field(gt=0, description="of the whole training, over its sensitivity")
    rounds: int = Field(ge=1, description="the longest training that the noise is sized for")
    participations: int = Field(ge=1, description="the most rounds in which one client may take part")
    seeded: bool = Field(default=False, description="noise from the plan's seed; must be true: in simulations only")

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        if not self.seeded:
            raise ValueError(
                "secret noise is not supported: every round draws that of earlier ones again, from a key that "
                "versions would give away; set seeded: true in a simulation, or use central_gaussian"
            )
        if self.participations > self.rounds:
            raise ValueError(f"participations must not exceed rounds, got {self.participations} of {self.rounds}")
        return self

    @property
    def noised_by(self) -> NoisedBy:
        return "server"

    @property
    def sized(self) -> Sized | None:
        return Sized(self.rounds, self.participations)

    def release(self, sampling_rate: float) -> Release | None:
        """That of a whole training."""
        return Gaussian(noise_multiplier=self.noise_multiplier)

    def init(self, size: int) -> Any:
        return Noised(0, 0, (), {})

    def finish(
        self, state: Noised, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        """The aggregate with the noise of the next round.

        Raises:
            TrainingError: the noise is not sized for this round.
        """
        cohort = [update.client for update in updates]
        terms = (self.norm, self.noise_multiplier, float(self.rounds), float(self.participations), share)
        after = Noised(
            releases=state.releases + 1,
            key=state.key if state.releases else int(rng.integers(2**63)),
            terms=terms,
            taken=dict(sorted({**state.taken, **{name: state.taken.get(name, 0) + 1 for name in cohort}}.items())),
        )
        self._require_sized(state, after, cohort)
        deviation, weights = self.deviation(share), inverse(after.releases)
        noised = aggregate + deviation * _sum(weights, after.key, aggregate.size)
        metrics = {"noise_deviation": deviation * float(np.linalg.norm(weights))}
        return Step(after, noised.astype(np.float32), metrics)

    def deviation(self, share: float) -> float:
        """The standard deviation of z in a coordinate of the aggregate."""
        return self.noise_multiplier * self.norm * share * sensitivity(self.rounds, self.participations)

    def _require_sized(self, before: Noised, after: Noised, cohort: Sequence[str]) -> None:
        if before.releases and before.terms != after.terms:
            raise TrainingError(
                f"{self.kind}: earlier rounds had noise that was sized otherwise, and all are one release; go on with "
                "the plan as it was, or begin another training"
            )
        if after.releases > self.rounds:
            raise TrainingError(
                f"{self.kind}: noise for {self.rounds} rounds, and all are over; begin another training"
            )
        often = [name for name in cohort if after.taken[name] > self.participations]
        if often:
            raise TrainingError(
                f"{self.kind}: client {often[0]} has taken part in {self.participations} rounds, for which its noise "
                "is sized; nothing is released"
            )


def _sum(weights: NDArray[np.float64], key: int, size: int) -> NDArray[np.float64]:
    """The noise of the latest of some rounds: every z by its weight, the latest by the first."""
    total = np.zeros(size)
    for number, weight in enumerate(weights[::-1]):
        total += weight * np.random.Generator(np.random.PCG64([key, number])).standard_normal(size)
    return total
