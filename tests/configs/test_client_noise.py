"""Plans whose clients add noise: what their ε means, and what they may do that central noise forbids."""

from __future__ import annotations

import pytest

from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import meaning
from federated.errors import PlanError

LOCAL = "algorithm.transforms=[{kind: local_gaussian, norm: 0.5, noise_multiplier: 4}]"
SKELLAM = "algorithm.transforms=[{kind: distributed_skellam, norm: 0.5, noise_multiplier: 1.5, least: 6}]"
PLAN = (
    "scaling={kind: divide, by: 16}",
    "baselines=false",
    "stop=null",
    "quorum=3",
    "algorithm.select={kind: uniform, cohort: 8}",
    "algorithm.rule={kind: fixed_mean, expected: 8}",
    "privacy={population: wards, delta: 1.0e-5, budget: 9}",
)


def noised(*overrides: str) -> Plan:
    return load_plan("quickstart", [*PLAN, *overrides])


def test_an_epsilon_says_that_it_is_of_a_message_or_of_a_sum_and_that_nothing_was_sampled() -> None:
    end = "or zero updates in its place; delta 1e-05; no sampling: who takes part is known"
    assert meaning(noised(LOCAL)) == f"all that one client sends, {end}"
    assert meaning(noised(SKELLAM)) == f"one client in sums of at least 6, {end}"
    assert meaning(noised(LOCAL, "algorithm.select={kind: poisson, rate: 0.4}")) == meaning(noised(LOCAL))


def test_a_round_may_need_a_quorum_and_needs_those_whose_noise_is_claimed() -> None:
    assert (noised(LOCAL).needed, noised(SKELLAM).needed, noised(SKELLAM, "quorum=7").needed) == (3, 6, 7)
    assert noised(LOCAL).federation()
    assert noised(SKELLAM).federation()


def test_a_cohort_that_cannot_carry_the_noise_is_refused() -> None:
    with pytest.raises(
        PlanError, match=r"^algorithm.transforms: the noise of at least 6 clients is claimed, but a coh"
    ):
        noised(SKELLAM, "algorithm.select.cohort=5").federation()


@pytest.mark.parametrize("noise", [LOCAL, SKELLAM])
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("privacy=null", "privacy: the plan adds noise, and nobody counts what it costs"),
        ("commit_every=2", "commit_every: noise that cannot be drawn again"),
        ("scaling={kind: standardize}", "scaling.standardize: the model would carry numbers found from all clients'"),
        ("stop={metric: loss, patience: 3}", "stop: at_least, at_most and patience go by clients' rows"),
        ("algorithm.rule={kind: weighted_mean}", "algorithm: rule weighted_mean "),
        ("algorithm.select={kind: by_size, cohort: 8}", "algorithm: select by_size goes by what clients hold"),
        ("algorithm.transforms.0.seeded=true", "algorithm"),
    ],
)
def test_what_would_make_epsilon_untrue_is_refused(noise: str, override: str, said: str) -> None:
    with pytest.raises(PlanError) as raised:
        noised(noise, override)
    assert str(raised.value).startswith(said)


def test_a_simulation_may_take_noise_from_its_seed() -> None:
    for noise in (LOCAL, SKELLAM):
        assert not noised(noise, "simulation=true", "algorithm.transforms.0.seeded=true").algorithm.secret
