"""A clip norm that follows the updates, whose following is noised and paid for too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from federated.component import Step, Vector
from federated.randomness import secret_normals
from federated.transforms.noising import NOISE_FOUND, CentralGaussian, measured, with_noise
from federated.transforms.transform import Layers, Transform
from federated.updates import Update, l2_norm

_WITHIN = "within"
_OF_COHORT = 20  # the noise of the count is a twentieth of the expected cohort, as in the paper
_LARGEST = 1.1  # how much stronger noise on the updates may get for the count's sake


class Adapted(NamedTuple):
    """The clip norm of the next round, and what the last one released where nobody can draw that again."""

    norm: float
    noised: Vector | None


class AdaptiveGaussian(CentralGaussian):
    """``central_gaussian`` with a norm that goes to a quantile of the updates' norms (Andrew et al. 2021, algorithm 1).

    A client also tells, as ±½, whether its update was within the norm. Of m clients expected in a round the server
    counts them with noise of deviation m / 20, and multiplies the norm by exp(-``step`` · (share within -
    ``quantile``)). The count is paid for out of ``noise_multiplier``: noise on the updates has a multiplier of
    (z⁻² - (m / 10)⁻²)^-½, which is refused where it is more than a tenth larger: that takes m ≥ 24 z.

    ``norm`` is that of the first round. The other edge cases are those of ``central_gaussian``.
    """

    kind: Literal["adaptive_gaussian"] = "adaptive_gaussian"  # type: ignore[assignment]
    quantile: float = Field(default=0.5, gt=0, lt=1, description="share of updates that the norm leaves as they are")
    step: float = Field(default=0.2, gt=0, description="how fast the norm goes there")

    @property
    def counts_clients(self) -> bool:
        return True

    def check(self, share: float) -> None:
        expected, least = 1.0 / share, math.ceil(self._least)
        if expected < self._least:
            raise ValueError(
                f"adaptive_gaussian: with {expected:g} clients expected a round, the count of updates within the norm "
                f"drowns in its noise; it takes at least {least} of them, or central_gaussian with a fixed norm"
            )

    def init(self, size: int) -> Any:
        return Adapted(self.norm, np.zeros(size, np.float32) if self.secret else None)

    def now(self, state: Any) -> Transform:
        return self.model_copy(update={"norm": float(state.norm)})

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        within = np.float32(0.5 if l2_norm(update.delta) <= self.norm else -0.5)
        clipped = super().encode(update, layers, rng)
        return replace(clipped, extras=clipped.extras | {_WITHIN: np.array([within])})

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        return replace(update, extras={name: told for name, told in update.extras.items() if name != _WITHIN})

    def deviation(self, share: float) -> float:
        counted = 2 / (_OF_COHORT * share)  # of the count, over what one client changes it by
        return float((self.noise_multiplier**-2 - counted**-2) ** -0.5) * self.norm * share

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        draw = secret_normals if self.secret else rng.standard_normal
        deviation = self.model_copy(update={"norm": float(state.norm)}).deviation(share)
        noised = with_noise(aggregate, deviation, draw)
        told = sum(min(max(float(update.extras[_WITHIN][0]), -0.5), 0.5) for update in updates)
        counted = float(with_noise(np.array([told], np.float32), 1 / (_OF_COHORT * share), draw)[0])
        within = 0.5 + counted * share
        after = Adapted(
            float(state.norm) * math.exp(-self.step * (within - self.quantile)), noised if self.secret else None
        )
        return Step(after, noised, {"noise_deviation": deviation, "clip_norm": float(state.norm), "within": within})

    def again(self, state: Any) -> Transform:
        return self if self.seeded else _AdaptedBefore(**self.model_dump(exclude={"kind"}), left=tuple(state))

    @property
    def _least(self) -> float:
        return 0.5 * _OF_COHORT * self.noise_multiplier / math.sqrt(1 - _LARGEST**-2)


class _AdaptedBefore(AdaptiveGaussian):
    """The same, with the noise of a round that is over: ``left`` is the state after it."""

    left: Any

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        left, noised = Adapted(*self.left), self.left[1]
        deviation = self.model_copy(update={"norm": float(state.norm)}).deviation(share)
        found = measured(noised, aggregate, deviation) * self.noise_multiplier
        return Step(left, noised, {NOISE_FOUND: found})
