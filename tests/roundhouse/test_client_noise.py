"""``roundhouse privacy`` of plans whose clients add noise."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.privacy.releases import Skellam
from tasks.ledger import PrivacyLedger, Terms
from tasks.signing import signer
from tests.roundhouse.commands import roundhouse
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
    assert "a zero update in its place" in found["means"]
    assert asked(home, str(plan), "--set", noise, "--target-epsilon", "2")["noise_multiplier"] > 6.5


def test_a_ledger_names_the_noise(home: Path) -> None:
    terms = Terms(population="wards", unit="client", delta=1e-5, budget=5.0)
    ledger = PrivacyLedger(home / "privacy" / "wards.db", terms, signer())
    grant = ledger.reserve(Skellam(noise_multiplier=4.0, units=2**16), "run", 1)
    ledger.commit(grant, Skellam(noise_multiplier=5.0, units=2**16))
    lines = roundhouse(home, "privacy", "wards").stdout.splitlines()
    assert "spent                   1 × noise_multiplier 5, units 65536 (skellam)" in lines
