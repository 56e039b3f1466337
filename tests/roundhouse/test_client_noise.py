"""``roundhouse privacy`` of plans whose clients add noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.privacy.neighbours import Neighbours
from federated.privacy.releases import Gaussian, Skellam
from tasks.ledger import PrivacyLedger, Terms
from tasks.signing import signer
from tests.roundhouse.commands import here
from tests.roundhouse.test_privacy_command import PLAN, asked

SKELLAM = "algorithm.transforms=[{kind: distributed_skellam, norm: 1.0, noise_multiplier: 4.0, least: 5}]"
LOCAL = "algorithm.transforms=[{kind: local_gaussian, norm: 1.0, noise_multiplier: 4.0}]"


@pytest.mark.parametrize(("noise", "tight"), [(SKELLAM, False), (LOCAL, True)])
def test_a_forecast_counts_by_the_plans_own_noise_and_without_sampling(home: Path, noise: str, tight: bool) -> None:
    plan = home / "wards.yaml"
    plan.write_text(PLAN)
    found = asked(home, str(plan), "--set", noise, "--set", "rounds=20")
    assert found["epsilon"]["rdp"] == pytest.approx(5.3777, abs=1e-4)
    assert (found["epsilon"]["pld"] is not None) == tight
    assert found["sampling_rate"] == 1.0
    assert "zero updates in its place" in found["means"]
    assert (found["relation"], found["sampling"]) == ("zero_out", "none")
    assert asked(home, str(plan), "--set", noise, "--target-epsilon", "2")["noise_multiplier"] > 6.5


def test_a_ledger_names_the_noise(home: Path) -> None:
    terms = Terms(population="wards", unit="client", delta=1e-5, budget=5.0)
    ledger = PrivacyLedger(home / "privacy" / "wards.db", terms, signer())
    grant = ledger.reserve(Skellam(noise_multiplier=4.0, units=2**16), "run", 1)
    ledger.commit(grant, Skellam(noise_multiplier=5.0, units=2**16))
    lines = here(home, "privacy", "wards").stdout.splitlines()
    told = "what one client sends, or zeros in its place; no sampling"
    assert f"spent                   1 × skellam: noise_multiplier 5, units 65536 ({told})" in lines


def test_a_ledger_of_several_kinds_says_what_each_release_is_counted_with_and_what_all_of_them_are(home: Path) -> None:
    terms, path = Terms(population="wards", unit="client", delta=1e-5, budget=50), home / "privacy" / "wards.db"
    drawn = Neighbours(relation="add_or_remove_one", said="one client, added or removed")
    sent = Neighbours(relation="zero_out", said="all that one client sends, or zero updates in its place")
    for number, (neighbours, release) in enumerate(
        [(drawn, Gaussian(noise_multiplier=1.0, sampling_rate=0.2)), (sent, Gaussian(noise_multiplier=4.0))]
    ):
        PrivacyLedger(path, terms, signer(), neighbours=neighbours).reserve(release, "run", number)
    lines = here(home, "privacy", "wards").stdout.splitlines()
    each = f"{drawn.said}; Poisson sampling", f"{sent.said}; no sampling"
    assert lines[1] == "unit                    client"
    assert lines[4:7] == [
        "neighbours differ in    all of it, where zeros are in the place of what one client sends: " + " | ".join(each),
        f"spent                   1 × gaussian: noise_multiplier 1, sampling_rate 0.2 ({each[0]})",
        f"spent                   1 × gaussian: noise_multiplier 4, sampling_rate 1 ({each[1]})",
    ]
    plan = home / "wards.yaml"
    plan.write_text(PLAN)
    found = asked(home, str(plan), "--set", LOCAL, "--set", "privacy.budget=50")
    assert (found["relation"], found["sampling"]) == ("zero_out", "poisson")
    assert found["means"].endswith(f"; and of what was paid beside it: {each[0]}")
    assert sent.said in found["means"]
