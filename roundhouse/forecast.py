"""What a plan would cost of a privacy budget, before it trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from configs import environment
from configs.plan import Plan
from configs.privacy import Privacy, meaning, neighbours
from federated.errors import InputError
from federated.privacy.accounting import SelfComposed, affordable, calibrated, epsilon, tight
from federated.privacy.calculator import Answer
from federated.privacy.releases import Release, Unit
from federated.rounds import steps_of
from tasks.balance import Balance, Counted, Line, Terms
from tasks.ledger import PrivacyLedger
from tasks.signing import signer, trusted_keys


class Payer(NamedTuple):
    """Who pays ``times`` releases a round, and what it has paid ``before``; or one for ``training`` rounds, if any."""

    population: str
    counted: Counted
    times: int
    before: tuple[Line, ...]
    training: int = 0

    @property
    def release(self) -> Release:
        """What it pays for."""
        return self.counted.release

    @property
    def spent(self) -> list[SelfComposed]:
        """What it has paid before, as an accountant needs it."""
        return [SelfComposed(line.counted.release, line.times) for line in self.before]

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

    def with_noise(self, noise: float) -> Payer:
        """The same, were there so much noise."""
        return self._replace(counted=self.counted._replace(release=_with(self.release)(noise)))

    def balance(self, terms: Terms, rounds: int) -> Balance:
        """All that it has paid after so many rounds more."""
        return Balance(terms, (*self.before, Line(self.counted, self.releases(rounds))))

    def after(self, rounds: int) -> list[SelfComposed]:
        """What it has spent after so many rounds more."""
        return [*self.spent, SelfComposed(self.release, self.releases(rounds))]


class Forecast(NamedTuple):
    """What rounds cost whom they cost most, after what that has spent; ``within`` of them the plan's budget pays for.

    Where records are hidden, each client pays, in every round that it takes part in: here, in all of them. ``means``
    is what ε is one of, ``balance`` all that it is of; ``asked`` is the budget whose rounds were asked for, if any.
    """

    answer: Answer
    payer: Payer
    balance: Balance
    within: int
    means: str
    asked: float | None = None

    @property
    def unit(self) -> Unit:
        """Whose privacy it is."""
        return self.balance.terms.unit

    @property
    def budget(self) -> float | None:
        """The plan's."""
        return self.balance.terms.budget

    @property
    def exceeded(self) -> bool:
        """Whether more is spent already than the budget that was asked about."""
        return self.asked is not None and self.answer.epsilon.best > self.asked

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        assumed = {"relation": self.balance.relation, "sampling": self.balance.sampling, "means": self.means}
        whose = {"unit": self.unit, "population": self.payer.population} | self.payer.pace
        spent = {"spent_before": sum(run.times for run in self.payer.spent)}
        limits = {"plan_budget": self.budget, "rounds_within": self.within}
        return self.answer.as_json() | assumed | whose | spent | limits


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
        payers = _calibrated(payers, rounds, target, Terms(unit=unit, **privacy.model_dump()))
    worst = max(payers, key=lambda payer: tight(payer.after(rounds), privacy.delta))
    cost, within = epsilon(worst.after(rounds), privacy.delta), rounds
    if privacy.budget is not None and cost.best > privacy.budget:
        within = _rounds(worst, privacy.budget, privacy.delta)
    balance = worst.balance(Terms(unit=unit, **privacy.model_dump()), rounds)
    answer = Answer(cost, privacy.delta, worst.release.rate, worst.release.noise_multiplier, rounds)
    return Forecast(answer, worst, balance, within, meaning(plan) + balance.beside(worst.counted), budget)


def _payers(plan: Plan, privacy: Privacy) -> Iterator[Payer]:
    """One for every way to pay: clients with as many rows that have spent as much are one."""
    algorithm, counted_with = plan.algorithm, neighbours(plan)
    if counted_with is None:
        return
    if algorithm.release is not None:
        training = algorithm.sized.rounds if algorithm.sized is not None else 0
        counted = Counted(algorithm.release, counted_with)
        yield Payer(privacy.population, counted, 1, _before(plan, privacy.population), training)
        return
    found: dict[tuple[Any, ...], Payer] = {}
    for name, client in plan.federation().clients.items():
        before = _before(plan, f"{privacy.population}/{quote(name, safe='')}")
        counted = Counted(algorithm.local.release(len(client.train)), counted_with)
        payer = Payer(f"{privacy.population}/{name}", counted, steps_of(algorithm, 1, client), before)
        found.setdefault(payer[1:], payer)
    yield from found.values()


def _before(plan: Plan, population: str) -> tuple[Line, ...]:
    """What has been paid; a simulation begins with nothing."""
    path = environment.privacy_ledger(population)
    if plan.simulation or not path.exists():
        return ()
    return PrivacyLedger(path, None, signer(), trusted_keys()).balance().lines


def _rounds(payer: Payer, budget: float, delta: float) -> int:
    return payer.rounds(affordable(payer.release, budget, delta, payer.spent))


def _calibrated(payers: Sequence[Payer], rounds: int, target: float, terms: Terms) -> list[Payer]:
    """All with the noise that whoever pays most needs."""
    noise, delta = 0.0, terms.delta
    for payer in sorted(payers, key=lambda payer: -tight(payer.after(rounds), delta)):
        enough = payer.with_noise(noise) if noise else payer
        if not noise or tight(enough.after(rounds), delta) > target:
            noise = _enough(payer, rounds, target, terms)
    return [payer.with_noise(noise) for payer in payers]


def _enough(payer: Payer, rounds: int, target: float, terms: Terms) -> float:
    """The least noise for one of those who pay.

    Raises:
        InputError: there is none.
    """
    found = calibrated(_with(payer.release), payer.releases(rounds), target, terms.delta, payer.spent)
    if found is None:
        raise InputError(
            f"no noise is enough for epsilon {target:g} after {rounds:,} rounds more: {payer.population} has spent "
            f"epsilon {tight(payer.spent, terms.delta):.4g} already (unit {terms.unit}, delta {terms.delta:g}; "
            f"{payer.balance(terms, rounds).said}); allow more"
        )
    return found


def _with(release: Release) -> Callable[[float], Release]:
    return lambda noise: release.model_copy(update={"noise_multiplier": noise})
