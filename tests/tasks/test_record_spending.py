"""What clients pay for their records: each for itself, and nobody for a round that too few can pay for."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import neighbours
from federated.data import Client
from federated.selectors import Selection
from tasks.ledger import BudgetExceeded, PrivacyLedger, Terms
from tasks.record_spending import RecordSpending
from tasks.signing import signer

NAMES = ("client-01", "client-02", "client-03")


def planned(*overrides: str, noise: float = 2.0) -> Plan:
    dp_sgd = f"{{norm: 1, noise_multiplier: {noise}, seeded: true}}"
    return load_plan(
        "quickstart",
        [
            "simulation=true",
            "scaling={kind: divide, by: 16}",
            "baselines=false",
            "stop=null",
            "privacy={population: wards, delta: 1.0e-5, budget: null}",
            "quorum=1",
            f"algorithm.local={{steps: 2, batch_size: 8, dp_sgd: {dp_sgd}}}",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def clients() -> dict[str, Client]:
    """As many rows each, so that their epsilon is counted once."""
    found = planned().federation().clients
    return dict.fromkeys(NAMES, next(iter(found.values())))


class Wards:
    """The ledgers of three clients, of whom ``poor`` can pay for nothing."""

    def __init__(self, home: Path, poor: tuple[str, ...] = ()) -> None:
        self._home, self._poor = home, poor

    def __call__(self, name: str) -> PrivacyLedger:
        budget = 0.01 if name in self._poor else 50.0
        terms = Terms(population=f"wards/{name}", unit="record", delta=1e-5, budget=budget)
        counted_with = neighbours(planned())
        return PrivacyLedger(self._home / f"{name}.db", terms, signer(), neighbours=counted_with)

    def paid(self) -> list[str]:
        return [name for name in NAMES if self(name).statement().spent]


def spending(plan: Plan, clients: dict[str, Client], wards: Wards) -> RecordSpending:
    return RecordSpending(plan, "night", clients, wards, ())


EVERYBODY = Selection(NAMES, NAMES, {})


def test_a_client_that_cannot_pay_stays_out_and_the_others_pay(home: Path, clients: dict[str, Client]) -> None:
    wards = Wards(home, poor=NAMES[:1])
    paying = spending(planned("quorum=2"), clients, wards)
    admitted = paying.admit(1, EVERYBODY)
    assert (admitted.cohort, admitted.reasons) == (NAMES[1:], {NAMES[0]: "its privacy budget is spent"})
    assert wards.paid() == list(NAMES[1:])
    spent = paying.commit()
    assert spent.metrics["privacy_clients_left"] == 2
    assert (spent.said["relation"], spent.said["sampling"]) == ("zero_out", "poisson")
    means = "one record of a client, or zero gradients in its place; delta 1e-05; Poisson batches of 8"
    assert spent.said["means"] == means + "; in a simulation, which protects nobody"


def test_nobody_pays_for_a_round_that_too_few_can_pay_for(home: Path, clients: dict[str, Client]) -> None:
    wards = Wards(home, poor=NAMES[:2])
    paying = spending(planned("quorum=2"), clients, wards)
    admitted = paying.admit(1, EVERYBODY)
    assert admitted.cohort == ()
    assert admitted.reasons[NAMES[2]] == "too few others can pay for the round"
    assert wards.paid() == []
    assert wards(NAMES[2]).statement().entries == 1
    assert paying.commit().metrics["epsilon"] == 0


@pytest.mark.parametrize(
    ("quorum", "poor", "said"),
    [(2, 2, "1 of 2 clients that are needed"), (3, 1, "2 of 3 clients that are needed"), (1, 3, "no client")],
)
def test_a_round_is_not_entered_where_fewer_clients_can_pay_than_it_needs(
    home: Path, clients: dict[str, Client], quorum: int, poor: int, said: str
) -> None:
    paying = spending(planned(f"quorum={quorum}"), clients, Wards(home, poor=NAMES[:poor]))
    with pytest.raises(BudgetExceeded, match=rf"^privacy budget: {said} can pay for round 1 \(one record"):
        paying.enter(1)


def test_a_round_is_entered_where_as_many_can_pay_as_it_needs(home: Path, clients: dict[str, Client]) -> None:
    spending(planned("quorum=2"), clients, Wards(home, poor=NAMES[:1])).enter(1)


def test_what_was_paid_is_given_back_where_another_training_was_faster(
    home: Path, clients: dict[str, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    wards, reserve = Wards(home), PrivacyLedger.reserve

    def beaten(self: PrivacyLedger, *given: object) -> object:
        if self.terms.population.endswith(NAMES[1]):
            raise BudgetExceeded("it is spent")
        return reserve(self, *given)

    monkeypatch.setattr(PrivacyLedger, "reserve", beaten)
    paying = spending(planned("quorum=3"), clients, wards)
    assert paying.admit(1, EVERYBODY).cohort == ()
    assert wards.paid() == []
    assert [wards(name).statement().entries for name in NAMES] == [3, 1, 3]
    paying.commit()
    monkeypatch.setattr(PrivacyLedger, "reserve", reserve)
    assert paying.admit(2, EVERYBODY).cohort == NAMES
    assert wards.paid() == list(NAMES)


def test_noise_that_a_seed_repeats_is_paid_for_again_where_there_is_less_of_it_or_more_steps(
    home: Path, clients: dict[str, Client]
) -> None:
    wards = Wards(home)
    more_steps = "algorithm.local.steps=3"
    for plan in (planned(), planned(), planned(noise=3.0), planned("algorithm.local.steps=1")):
        spending(plan, clients, wards).admit(1, EVERYBODY)
    assert [wards(name).attempts("night", 1) for name in NAMES] == [1, 1, 1]
    for plan, attempts in ((planned(noise=1.5), 2), (planned(more_steps), 3), (planned(more_steps), 3)):
        spending(plan, clients, wards).admit(1, EVERYBODY)
        assert [wards(name).attempts("night", 1) for name in NAMES] == [attempts] * 3


def test_a_round_that_is_paid_for_may_be_done_again_when_nothing_is_left(
    home: Path, clients: dict[str, Client]
) -> None:
    wards = Wards(home)
    spending(planned(), clients, wards).admit(1, EVERYBODY)
    for name in NAMES:
        wards(name).amend(0.01)
    poor = Wards(home, poor=NAMES)
    again = spending(planned(), clients, poor)
    again.enter(1)
    assert again.admit(1, EVERYBODY).cohort == NAMES
    with pytest.raises(BudgetExceeded, match="no client can pay for round 2"):
        spending(planned(), clients, poor).enter(2)
