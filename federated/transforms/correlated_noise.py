"""Noise that later rounds take back in part: differential privacy without sampling, for a training as a whole."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, model_validator

from federated.component import Step, Vector
from federated.errors import TrainingError
from federated.privacy.prefix_sums import inverse, sensitivity
from federated.privacy.releases import Gaussian, Release
from federated.randomness import derived_key, keyed_bits, normals
from federated.transforms.noising import NOISE_FOUND, ClippedNoise, measured, on_grid
from federated.transforms.transform import NoisedBy, Sized, Transform
from federated.updates import Update


class Noised(NamedTuple):
    """What a training has released so far: with noise from which nonces, sized how, and of whom how often.

    ``key`` is a digest of the key that noise is drawn with, and ``noised`` the last release, shape (trainable,), where
    there is such a key. Whoever has it, or none is needed, can take the noise away.
    """

    nonces: tuple[str, ...]
    terms: tuple[float, ...]
    taken: Mapping[str, int]
    key: str
    noised: Vector | None


class CorrelatedGaussian(ClippedNoise):
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

    Noise of earlier rounds is drawn again in every round: a round t draws t vectors. z_k belongs to a nonce, which the
    state has, and to a key, which no state has: with both, AES-256-CTR gives its bits (``keyed``). With ``seeded``, for
    simulations only, the plan's seed gives the nonce, and the nonce alone z_k. A round that is drawn again after a
    crash has another z_k: what it releases is worth no more than the whole training's releases once more, since each
    of its rows is one of theirs.

    ==============================  ==========================
    edge case                       answer
    ==============================  ==========================
    zero update                     zero, and noised like any other
    NaN or infinite                 the round leaves it out: it counts as zero
    cohort of one, of none          noise all the same
    a client that drops             the same: it has not taken part
    ``norm``: 0 or ∞                refused: nothing would be learnt, or nothing hidden
    no noise                        refused: ``clip`` does that
    a round beyond ``rounds``       refused before it releases anything; so is a plan with more rounds
    a client beyond                 refused before anything is released; so is a plan whose selection would let one
    ``participations``              in too often
    sized otherwise than before,    refused: the rounds would no longer be one mechanism
    or with another key
    ``participations: 1``           a client is in one round: the least noise
    ==============================  ==========================
    """

    kind: Literal["correlated_gaussian"] = "correlated_gaussian"  # type: ignore[assignment]
    noise_multiplier: float = Field(gt=0, description="of the whole training, over its sensitivity")
    rounds: int = Field(ge=1, description="the longest training that the noise is sized for")
    participations: int = Field(ge=1, description="the most rounds in which one client may take part")
    _key: bytes = PrivateAttr(b"")

    @model_validator(mode="after")
    def _fits_its_rounds(self) -> Self:
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

    def keyed(self, key: bytes) -> Transform:
        if self.seeded:
            return self
        keyed = self.model_copy()
        keyed._key = derived_key(key, self.kind)
        return keyed

    def init(self, size: int) -> Any:
        return Noised((), (), {}, "", np.zeros(size, np.float32) if self.secret else None)

    def finish(
        self, state: Noised, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        """The aggregate with the noise of the next round.

        Raises:
            TrainingError: the noise is not sized for this round, or there is no key, or another, to draw it with.
        """
        nonce = (rng.bytes(16) if self.seeded else secrets.token_bytes(16)).hex()
        after = self._after(state, nonce, [update.client for update in updates], share)
        deviation, weights = self.deviation(share), inverse(len(after.nonces))
        noised = on_grid(aggregate, self._sum(weights, after.nonces, aggregate.size), deviation)
        metrics = {"noise_deviation": deviation * float(np.linalg.norm(weights))}
        return Step(after._replace(noised=noised if self.secret else None), noised, metrics)

    def again(self, state: Noised) -> Transform:
        return self if self.seeded else _DrawnBefore(**self.model_dump(), left=state)

    def deviation(self, share: float) -> float:
        """The standard deviation of z in a coordinate of the aggregate."""
        return self.noise_multiplier * self.norm * share * sensitivity(self.rounds, self.participations)

    def _after(self, before: Noised, nonce: str, cohort: Sequence[str], share: float) -> Noised:
        taken = {**before.taken, **{name: before.taken.get(name, 0) + 1 for name in cohort}}
        after = Noised(
            nonces=(*before.nonces, nonce),
            terms=(self.norm, self.noise_multiplier, float(self.rounds), float(self.participations), share),
            taken=dict(sorted(taken.items())),
            key="" if self.seeded else derived_key(self._key, "digest").hex()[:32],
            noised=before.noised,
        )
        self._require_key(before, after)
        self._require_sized(before, after, cohort)
        return after

    def _require_key(self, before: Noised, after: Noised) -> None:
        if self.secret and not self._key:
            raise TrainingError(f"{self.kind}: secret noise is drawn with a key, and there is none")
        if before.nonces and before.key != after.key:
            raise TrainingError(
                f"{self.kind}: the noise of earlier rounds was drawn with another key, which comes from the key that "
                "signs; go on with that one, or begin another training"
            )

    def _require_sized(self, before: Noised, after: Noised, cohort: Sequence[str]) -> None:
        if before.nonces and before.terms != after.terms:
            raise TrainingError(
                f"{self.kind}: earlier rounds had noise that was sized otherwise, and all are one release; go on with "
                "the plan as it was, or begin another training"
            )
        if len(after.nonces) > self.rounds:
            raise TrainingError(
                f"{self.kind}: noise for {self.rounds} rounds, and all are over; begin another training"
            )
        often = [name for name in cohort if after.taken[name] > self.participations]
        if often:
            raise TrainingError(
                f"{self.kind}: client {often[0]} has taken part in {self.participations} rounds, for which its noise "
                "is sized; nothing is released"
            )

    def _sum(self, weights: NDArray[np.float64], nonces: Sequence[str], size: int) -> NDArray[np.float64]:
        """The noise of the latest of some rounds, in its deviation: every z by its weight, the latest by the first."""
        total = np.zeros(size)
        for nonce, weight in zip(nonces, weights[::-1], strict=True):
            total += weight * self._drawn(nonce, size)
        return total

    def _drawn(self, nonce: str, size: int) -> NDArray[np.float64]:
        if self.seeded:
            return np.random.Generator(np.random.PCG64(int(nonce, 16))).standard_normal(size)
        return normals(keyed_bits(derived_key(self._key, nonce)), size)


class _DrawnBefore(CorrelatedGaussian):
    """The same in a round that is over: ``left`` is the state after it."""

    left: Any

    def finish(
        self, state: Noised, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        deviation = self.deviation(share) * float(np.linalg.norm(inverse(len(self.left.nonces))))
        found = measured(self.left.noised, aggregate, deviation) * self.noise_multiplier
        return Step(self.left, self.left.noised, {NOISE_FOUND: found})
