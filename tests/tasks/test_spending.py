"""What rounds pay into the ledger of a population: once for noise that a seed repeats, unless that costs more now."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.privacy.accounting import SelfComposed
from federated.privacy.neighbours import Neighbours
from federated.privacy.releases import Gaussian
from tasks.ledger import PrivacyLedger, Terms
from tasks.signing import signer
from tasks.spending import ClientSpending

RELEASE = Gaussian(noise_multiplier=4.0, sampling_rate=0.5)
MORE_NOISE = Gaussian(noise_multiplier=5.0, sampling_rate=0.5)
LESS_NOISE = Gaussian(noise_multiplier=3.0, sampling_rate=0.5)
DRAWN = Neighbours(relation="add_or_remove_one", said="one client, added or removed")
SENT = Neighbours(relation="zero_out", said="what one client sends, or a zero update in its place")
TERMS = Terms(population="wards", unit="client", delta=1e-5)


def ledger(home: Path, neighbours: Neighbours = DRAWN) -> PrivacyLedger:
    return PrivacyLedger(home / "wards.db", TERMS, signer(), neighbours=neighbours)


def round_1(of: PrivacyLedger, release: Gaussian, *, repeats: bool) -> dict[str, object]:
    spending = ClientSpending("night", release, of, repeats=repeats, means="of clients")
    spending.enter(1)
    spending.enter(1)
    return spending.commit().said


def test_noise_that_a_seed_repeats_is_paid_for_again_where_there_is_less_of_it(home: Path) -> None:
    for release in (RELEASE, RELEASE, MORE_NOISE):
        round_1(ledger(home), release, repeats=True)
    assert ledger(home).statement().spent == (SelfComposed(RELEASE, 1),)
    for _ in range(2):
        round_1(ledger(home), LESS_NOISE, repeats=True)
    assert set(ledger(home).statement().spent) == {SelfComposed(RELEASE, 1), SelfComposed(LESS_NOISE, 1)}


def test_noise_that_nobody_can_draw_again_is_paid_for_every_time(home: Path) -> None:
    for _ in range(3):
        round_1(ledger(home), RELEASE, repeats=False)
    assert ledger(home).statement().spent == (SelfComposed(RELEASE, 3),)


@pytest.mark.parametrize(
    ("before", "also"),
    [(DRAWN, ""), (SENT, f"; and of what was paid beside it: {SENT.said}; Poisson sampling")],
    ids=["the same", "another"],
)
def test_a_rounds_record_says_all_that_its_epsilon_is_of(home: Path, before: Neighbours, also: str) -> None:
    ledger(home, before).reserve(RELEASE, "yesterday", 1)
    said = round_1(ledger(home), RELEASE, repeats=False)
    assert said["means"] == f"of clients{also}"
    assert (said["relation"], said["sampling"]) == (before.relation, "poisson")
