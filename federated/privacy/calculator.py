"""What can be asked of a mechanism before anything is trained: epsilon, noise or rounds, given the other two."""

from __future__ import annotations

from typing import Any, NamedTuple

from federated.errors import InputError
from federated.privacy.accounting import Epsilon, SelfComposed, affordable, calibrated, epsilon
from federated.privacy.neighbours import Neighbours, Sampling, sampling
from federated.privacy.releases import Gaussian

NEIGHBOURS = Neighbours(relation="add_or_remove_one", said="one unit, added or removed")

_ASK = (
    "give --noise-multiplier and --rounds for epsilon, --rounds and --target-epsilon for the noise, "
    "or --noise-multiplier and --budget for the rounds"
)


class Answer(NamedTuple):
    """``rounds`` of Gaussian noise, of Poisson draws below a rate of 1, and their cost."""

    epsilon: Epsilon
    delta: float
    sampling_rate: float
    noise_multiplier: float
    rounds: int

    @property
    def release(self) -> Gaussian:
        """That of one round."""
        return Gaussian(noise_multiplier=self.noise_multiplier, sampling_rate=self.sampling_rate)

    @property
    def sampling(self) -> Sampling:
        """What ε assumes of who takes part, as a ledger says it."""
        return sampling([self.release])

    @property
    def means(self) -> str:
        """What ε is one of; of what, client or record, only who asks knows."""
        return _meaning(self.release, self.delta)

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        assumed = {"relation": NEIGHBOURS.relation, "sampling": self.sampling, "means": self.means}
        return self._asdict() | {"epsilon": self.epsilon.as_json()} | assumed


def answer(
    sampling_rate: float,
    delta: float,
    noise_multiplier: float | None = None,
    rounds: int | None = None,
    target_epsilon: float | None = None,
    budget: float | None = None,
) -> Answer:
    """The one of noise, rounds and epsilon that is not given; ``budget`` and ``target_epsilon`` are limits to epsilon.

    Raises:
        InputError: too little or too much is given, or no noise is enough.
    """

    def release(noise: float) -> Gaussian:
        return Gaussian(noise_multiplier=noise, sampling_rate=sampling_rate)

    match (noise_multiplier, rounds, target_epsilon, budget):
        case (float(), int(), None, None):
            pass
        case (None, int(), float(), None):
            noise_multiplier = calibrated(release, rounds, target_epsilon, delta)
            if noise_multiplier is None:
                raise InputError(
                    f"no noise is enough for epsilon {target_epsilon:g} after {rounds:,} rounds "
                    f"({_meaning(release(1.0), delta)}); allow more"
                )
        case (float(), None, None, float()):
            rounds = affordable(release(noise_multiplier), budget, delta)
        case _:
            raise InputError(_ASK)
    cost = epsilon([SelfComposed(release(noise_multiplier), rounds)], delta)
    return Answer(cost, delta, sampling_rate, noise_multiplier, rounds)


def _meaning(release: Gaussian, delta: float) -> str:
    drawn = "no sampling" if sampling([release]) == "none" else f"Poisson sampling at {release.rate:g}"
    return f"{NEIGHBOURS.said}; delta {delta:g}; {drawn}"
