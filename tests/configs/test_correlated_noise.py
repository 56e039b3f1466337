"""Plans whose noise is sized for a training: which of them are refused, and what their ε means."""

from __future__ import annotations

import pytest

from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import meaning
from federated.errors import PlanError

PLAN = (
    "simulation=true",
    "baselines=false",
    "stop=null",
    "rounds=30",
    "scaling={kind: divide, by: 16}",
    "quorum=1",
    "privacy={population: wards, delta: 1.0e-5, budget: 9}",
    "algorithm.select={kind: round_robin, cohort: 5}",
    "algorithm.rule={kind: fixed_mean, expected: 5}",
    "algorithm.transforms=[{kind: correlated_gaussian, norm: 0.5, noise_multiplier: 1.5, rounds: 30, "
    "participations: 8, seeded: true}]",
)


def noised(*overrides: str) -> Plan:
    """Twenty clients, five of whom are in a round: each has 7 or 8 turns in 30 rounds."""
    return load_plan("quickstart", [*PLAN, *overrides])


def test_an_epsilon_says_that_it_is_of_all_rounds_and_that_nothing_was_sampled() -> None:
    assert meaning(noised()) == (
        "one client's updates in all rounds of a training, or zero updates in their place; delta 1e-05; no sampling: "
        "who takes part is known; in a simulation, which protects nobody"
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["algorithm.transforms.0.participations=7"],
            "algorithm.select.round_robin: a client may be in 8 of 30 rounds, but noise is sized for 7; raise "
            "participations to 8, or use round_robin with a small cohort",
        ),
        (["algorithm.select.cohort=6"], "algorithm.select.round_robin: a client may be in 9 of 30 rounds"),
        (["algorithm.select={kind: uniform, cohort: 5}"], "algorithm.select.uniform: a client may be in 30 of 30 roun"),
        (["algorithm.select={kind: all}"], "algorithm.select.all: a client may be in 30 of 30 rounds"),
        (["rounds=31"], "rounds: 31, but noise is sized for 30; raise rounds of the transform that adds it"),
        (["simulation=false"], "algorithm: whoever knows the seed can take seeded noise away again"),
        (
            ["algorithm.transforms.0.seeded=false", "commit_every=3"],
            "commit_every: noise that cannot be drawn again",
        ),
        (["privacy=null"], "privacy: the plan adds noise, and nobody counts what it costs"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_plan_that_the_noise_is_not_sized_for_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(PlanError) as raised:
        noised(*overrides)
    assert str(raised.value).startswith(said)


def test_clients_may_take_all_turns_that_the_noise_is_sized_for() -> None:
    assert noised("rounds=20", "algorithm.transforms.0.participations=5").federation()
    assert noised("algorithm.select={kind: all}", "algorithm.transforms.0.participations=30")


def test_secret_noise_is_for_trainings_of_real_clients() -> None:
    plan = noised("algorithm.transforms.0.seeded=false", "simulation=false")
    assert plan.algorithm.secret
    assert f"{meaning(plan)}; in a simulation, which protects nobody" == meaning(noised())
