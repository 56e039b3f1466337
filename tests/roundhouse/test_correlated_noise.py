"""``roundhouse privacy`` of plans whose whole training is one release."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.privacy.accounting import SelfComposed, affordable, epsilon
from federated.privacy.releases import Gaussian
from tests.roundhouse.commands import here
from tests.roundhouse.test_privacy_command import PLAN, asked

NOISE = (
    "algorithm.transforms=[{kind: correlated_gaussian, norm: 1.0, noise_multiplier: 1.0, rounds: 15, "
    "participations: 3, seeded: true}]"
)
SETS = [NOISE, "simulation=true", "algorithm.select={kind: round_robin, cohort: 5}"]
OPTIONS = [word for change in SETS for word in ("--set", change)]
ONCE = Gaussian(noise_multiplier=1.0)


@pytest.mark.slow
def test_a_forecast_counts_one_release_for_the_whole_training(home: Path) -> None:
    plan = home / "wards.yaml"
    plan.write_text(PLAN)
    found = asked(home, str(plan), *OPTIONS)
    assert found["epsilon"]["pld"] == pytest.approx(epsilon([SelfComposed(ONCE, 1)], 1e-5).best, abs=1e-4)
    assert (found["rounds"], found["rounds_within"], found["rounds_a_release"]) == (12, 12, 15)
    assert found["means"].startswith("one client's updates in all rounds of a training, or zero updates")
    assert asked(home, str(plan), *OPTIONS, "--target-epsilon", "4.3772")["noise_multiplier"] == pytest.approx(
        1, abs=1e-3
    )
    trainings = affordable(ONCE, 9.0, 1e-5)
    assert trainings > 1
    assert asked(home, str(plan), *OPTIONS, "--budget", "9")["rounds"] == 15 * trainings


def test_a_training_that_cannot_be_paid_for_has_no_round_within_its_budget(home: Path) -> None:
    plan = home / "wards.yaml"
    plan.write_text(PLAN)
    done = here(home, "privacy", str(plan), *OPTIONS, "--set", "privacy.budget=4")
    assert "the plan's budget       4: it ends the training after 0 rounds" in done.stdout, done.stderr
