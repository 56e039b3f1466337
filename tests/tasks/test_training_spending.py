"""A training that is one release pays once: again for another training, or for a release that costs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import Gaussian
from federated.selectors import Selection
from tasks.ledger import BudgetExceeded, PrivacyLedger, Terms
from tasks.signed_log import LedgerError
from tasks.signing import signer
from tasks.training_spending import TrainingSpending

RELEASE = Gaussian(noise_multiplier=4.0)
STRONGER, WEAKER = Gaussian(noise_multiplier=5.0), Gaussian(noise_multiplier=3.0)


@pytest.fixture
def ledger(home: Path) -> PrivacyLedger:
    """With a budget for two trainings, and one with less noise in place of the second."""
    budget = epsilon([SelfComposed(RELEASE, 1), SelfComposed(WEAKER, 1)], 1e-5).best + 0.01
    terms = Terms(population="wards", unit="client", delta=1e-5, budget=budget)
    return PrivacyLedger(home / "wards.db", terms, signer())


def spending(
    ledger: PrivacyLedger, run: str = "night", release: Gaussian = RELEASE, repeats: bool = True
) -> TrainingSpending:
    return TrainingSpending(run, release, 9, ledger, repeats=repeats, means="of clients")


def rounds_of(spending: TrainingSpending, first: int, last: int) -> list[float]:
    epsilons = []
    for number in range(first, last + 1):
        spending.enter(number)
        spending.enter(number)
        metrics = spending.commit().metrics
        assert metrics["epsilon_next"] == metrics["epsilon"]
        assert metrics["privacy_rounds_left"] == 9 - number
        epsilons.append(metrics["epsilon"])
    return epsilons


@pytest.mark.parametrize("repeats", [True, False])
def test_it_pays_before_the_first_round_and_nothing_later(ledger: PrivacyLedger, repeats: bool) -> None:
    night = spending(ledger, repeats=repeats)
    night.enter(1)
    assert ledger.statement().spent == (SelfComposed(RELEASE, 1),)
    assert len(set(rounds_of(night, 1, 5))) == 1
    assert ledger.statement().spent == (SelfComposed(RELEASE, 1),)
    assert ledger.attempts("night", 1) == 1


def test_a_training_that_goes_on_pays_no_more_and_another_one_does(ledger: PrivacyLedger) -> None:
    spending(ledger).enter(1)  # and the process ends
    rounds_of(spending(ledger), 1, 3)
    rounds_of(spending(ledger), 4, 5)
    assert ledger.statement().spent == (SelfComposed(RELEASE, 1),)
    rounds_of(spending(ledger, "morning"), 1, 2)
    assert ledger.statement().spent == (SelfComposed(RELEASE, 2),)
    with pytest.raises(BudgetExceeded, match="privacy budget of wards"):
        spending(ledger, "noon").enter(1)


def test_a_round_that_is_begun_once_more_with_other_noise_pays_for_a_training_again(ledger: PrivacyLedger) -> None:
    spending(ledger, repeats=False).enter(1)  # and the process ends
    assert len(set(rounds_of(spending(ledger, repeats=False), 1, 2))) == 1
    assert ledger.statement().spent == (SelfComposed(RELEASE, 2),)
    night = spending(ledger, repeats=False)
    rounds_of(night, 3, 4)  # no round was lost
    assert ledger.statement().spent == (SelfComposed(RELEASE, 2),)
    night.enter(5)  # and the process ends
    with pytest.raises(BudgetExceeded, match="privacy budget of wards"):
        spending(ledger, repeats=False).enter(5)


def test_a_change_to_less_noise_is_paid_for_and_one_to_more_is_not(ledger: PrivacyLedger) -> None:
    rounds_of(spending(ledger), 1, 1)
    rounds_of(spending(ledger, release=STRONGER), 1, 1)
    assert ledger.statement().spent == (SelfComposed(RELEASE, 1),)
    rounds_of(spending(ledger, release=WEAKER), 1, 1)
    assert set(ledger.statement().spent) == {SelfComposed(RELEASE, 1), SelfComposed(WEAKER, 1)}


def test_a_round_that_nobody_has_paid_for_is_refused_and_everybody_takes_part(ledger: PrivacyLedger) -> None:
    with pytest.raises(LedgerError, match="nobody has paid for"):
        spending(ledger).commit()
    selection = Selection(("a",), ("a", "b"), {})
    assert spending(ledger).admit(1, selection) == selection
