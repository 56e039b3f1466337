"""What a plan would cost of a privacy budget, before it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from configs import environment
from configs.plan import Plan
from configs.privacy import Privacy, meaning
from federated.errors import InputError
from federated.privacy.accounting import SelfComposed, affordable, calibrated, epsilon, tight
from federated.privacy.calculator import Answer
from federated.privacy.releases import Release, Unit
from federated.rounds import steps_of
from tasks.ledger import PrivacyLedger
from tasks.signing import signer, trusted_keys


class Payer(NamedTuple):
    """Who pays ``times`` releases a round, and what it has ``spent`` before; or one for ``training`` rounds, if any."""

    population: str
    release: Release
    times: int
    spent: tuple[SelfComposed, ...]
    training: int = 0

    @property
    def pace(self) -> dict[str, int]:
        """How fast it pays, as plain values."""
        return {"rounds_a_release": self.training} if self.training else {"releases_a_round": self.times}

    def releases(self, rounds: int) -> int:
        """How many so many rounds more are: a training is paid for whole, and one that is longer is another."""
        return math.ceil(rounds / self.training) if self.training else rounds * self.times

    def rounds(self, releases: int) -> int:
        """How many rounds so many releases pay for."""
        return releases * self.training if self.training else releases // self.times

    def after(self, rounds: int) -> list[SelfComposed]:
        """What it has spent after so many rounds more."""
        return [*self.spent, SelfComposed(self.release, self.releases(rounds))]


class Forecast(NamedTuple):
    """What rounds cost whom they cost most, after what that has spent; ``within`` of them the plan's budget pays for.

    Where records are hidden, each client pays, in every round that it takes part in: here, in all of them. ``means``
    is what ε is one of.
    """

    answer: Answer
    payer: Payer
    unit: Unit
    budget: float | None
    within: int
    means: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        whose = {"unit": self.unit, "population": self.payer.population} | self.payer.pace
        spent = {"spent_before": sum(run.times for run in self.payer.spent)}
        return (
            self.answer.as_json()
            | whose
            | spent
            | {"plan_budget": self.budget, "rounds_within": self.within, "means": self.means}
        )


def forecast(plan: Plan, target: float | None, budget: float | None) -> Forecast:
    """ε after the plan's rounds; or the noise for a ``target``, or the rounds that a ``budget`` buys.

    Raises:
        InputError: the plan adds no noise, or no noise is enough; or the data cannot be read where records are hidden.
    """
    privacy, unit = plan.privacy, plan.algorithm.unit
    if privacy is None or unit is None:
        raise InputError(f"{plan.name}: nothing in the plan adds noise, so there is no privacy to count")
    if target is not None and budget is not None:
        raise InputError("give one of --target-epsilon and --budget")
    payers = list(_payers(plan, privacy))
    rounds = plan.rounds
    if budget is not None:
        rounds = min(_rounds(payer, budget, privacy.delta) for payer in payers)
    if target is not None:
        payers = _calibrated(payers, rounds, target, privacy.delta)
    worst = max(payers, key=lambda payer: tight(payer.after(rounds), privacy.delta))
    cost, within = epsilon(worst.after(rounds), privacy.delta), rounds
    if privacy.budget is not None and cost.best > privacy.budget:
        within = _rounds(worst, privacy.budget, privacy.delta)
    release = worst.release
    rate = getattr(release, "sampling_rate", 1.0)
    return Forecast(
        Answer(cost, privacy.delta, rate, release.noise_multiplier, rounds),
        worst,
        unit,
        privacy.budget,
        within,
        meaning(plan),
    )


def _payers(plan: Plan, privacy: Privacy) -> Iterator[Payer]:
    """One for every way to pay: clients with as many rows that have spent as much are one."""
    algorithm = plan.algorithm
    if algorithm.release is not None:
        training = algorithm.sized.rounds if algorithm.sized is not None else 0
        yield Payer(privacy.population, algorithm.release, 1, _spent(plan, privacy.population), training)
        return
    found: dict[tuple[Any, ...], Payer] = {}
    for name, client in plan.federation().clients.items():
        population = f"{privacy.population}/{quote(name, safe='')}"
        release = algorithm.local.release(len(client.train))
        payer = Payer(f"{privacy.population}/{name}", release, steps_of(algorithm, 1, client), _spent(plan, population))
        found.setdefault(payer[1:], payer)
    yield from found.values()


def _spent(plan: Plan, population: str) -> tuple[SelfComposed, ...]:
    """What has been paid; a simulation begins with nothing."""
    path = environment.privacy_ledger(population)
    if plan.simulation or not path.exists():
        return ()
    return PrivacyLedger(path, None, signer(), trusted_keys()).statement().spent


def _rounds(payer: Payer, budget: float, delta: float) -> int:
    return payer.rounds(affordable(payer.release, budget, delta, payer.spent))


def _calibrated(payers: Sequence[Payer], rounds: int, target: float, delta: float) -> list[Payer]:
    """All with the noise that whoever pays most needs."""
    noise = 0.0
    for payer in sorted(payers, key=lambda payer: -tight(payer.after(rounds), delta)):
        enough = payer._replace(release=_with(payer.release)(noise)) if noise else payer
        if not noise or tight(enough.after(rounds), delta) > target:
            noise = calibrated(_with(payer.release), payer.releases(rounds), target, delta, payer.spent)
    return [payer._replace(release=_with(payer.release)(noise)) for payer in payers]


def _with(release: Release) -> Callable[[float], Release]:
    return lambda noise: release.model_copy(update={"noise_multiplier": noise})
