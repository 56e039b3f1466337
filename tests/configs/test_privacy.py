"""Plans whose ε would not be true are refused, each with what to do."""

from __future__ import annotations

import pytest

from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import epsilon_said, meaning
from configs.remarks import remarks
from federated.errors import PlanError

NOISE = "algorithm.transforms=[{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5}]"
SEEDED = "algorithm.transforms=[{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5, seeded: true}]"
LEDGER = "privacy={population: wards, delta: 1.0e-5, budget: 4}"
PLAN = (
    "scaling={kind: divide, by: 16}",
    "quorum=1",
    "baselines=false",
    "stop=null",
    "algorithm.select={kind: poisson, rate: 0.5}",
    "algorithm.rule={kind: fixed_mean, expected: 10}",
)


def noised(*overrides: str) -> Plan:
    return load_plan("quickstart", [*PLAN, NOISE, LEDGER, *overrides])


REFUSED = [
    (["privacy=null"], "privacy: the plan adds noise, and nobody counts what it costs; set privacy to"),
    (["algorithm.transforms=[]"], "privacy: nothing in the plan adds noise, so there is nothing to count"),
    ([SEEDED], "algorithm: whoever knows the seed can take seeded noise away again; set seeded: false"),
    (["commit_every=2"], "commit_every: noise that cannot be drawn again is kept with every round; set commit_every"),
    (["quorum=2"], "quorum: to break a round off would tell how many clients were in it"),
    (["scaling={kind: standardize}"], "scaling.standardize: the model would carry numbers found from all clients'"),
    (
        ["data={kind: csv, path: a.csv, target: y, missing: median}"],
        "data.missing: values would be filled by numbers found from all clients' rows, without noise",
    ),
    (["baselines=true"], "baselines: they tell of clients' rows without noise; leave them to simulations"),
    (["stop={metric: loss, patience: 3}"], "stop: at_least, at_most and patience go by clients' rows"),
    (["algorithm.rule={kind: weighted_mean}"], "algorithm: rule weighted_mean has no bound on what one client counts"),
    (["algorithm.select={kind: uniform, cohort: 3}"], "algorithm: select uniform does not draw each client by itself"),
    (["privacy.delta=0"], "privacy.delta: "),
    (["privacy.population=../x"], "privacy.population: "),
    (["privacy.population=simulations"], "privacy.population: simulations is the folder of simulations' ledgers; give"),
]


@pytest.mark.parametrize(("overrides", "said"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_would_make_epsilon_untrue_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(PlanError) as raised:
        noised(*overrides)
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("overrides", [[SEEDED, "commit_every=2"], ["baselines=true"], ["stop={at_most: 0.1}"]])
def test_a_simulation_may(overrides: list[str]) -> None:
    assert noised("simulation=true", *overrides).simulation


@pytest.mark.parametrize(
    "scaling", ["{kind: as_is}", "{kind: standardize, per: client}", "{kind: given, mean: [8], std: [4]}"]
)
def test_scaling_that_tells_nothing_may_be(scaling: str) -> None:
    assert noised(f"scaling={scaling}").privacy is not None


def test_dp_sgd_goes_with_numbers_known_beforehand_and_with_none_that_are_found_from_rows() -> None:
    def hidden(scaling: str) -> Plan:
        dp_sgd = "algorithm.local.dp_sgd={norm: 1, noise_multiplier: 2}"
        rest = ("quorum=1", "baselines=false", "stop=null", f"scaling={scaling}")
        return load_plan("quickstart", [dp_sgd, LEDGER, *rest])

    assert hidden("{kind: given, mean: [8], std: [4]}").algorithm.unit == "record"
    for fitted in ("{kind: standardize}", "{kind: standardize, per: client}"):
        with pytest.raises(PlanError, match="which dp_sgd does not count; use given, divide, or as_is"):
            hidden(fitted)


def test_a_delta_that_allows_to_reveal_a_client_is_refused() -> None:
    with pytest.raises(
        PlanError, match=r"^privacy\.delta: 0\.2 with 20 clients allows to reveal one of them; set it well"
    ):
        noised("privacy.delta=0.2").federation()
    assert noised("privacy.delta=0.01").federation()


def test_batch_normalisation_is_refused_because_its_statistics_are_not_noised() -> None:
    from federated.rounds import initial_state
    from tests.fakes import FakeEngine

    with pytest.raises(PlanError, match="fixed_mean cannot average what no gradient moves"):
        initial_state(noised().algorithm, FakeEngine(statistics=2), 10)


def test_an_epsilon_is_said_with_what_it_means() -> None:
    assert meaning(load_plan("quickstart")) == ""
    assert epsilon_said(meaning(noised()), 1.23456) == (
        "epsilon 1.2346 (one client, added or removed; delta 1e-05; Poisson sampling at 0.5)"
    )
    assert meaning(noised("algorithm.select={kind: all}")).endswith("everybody takes part")
    assert meaning(noised("simulation=true")).endswith("at 0.5; in a simulation, which protects nobody")


def test_noise_needs_no_quorum_and_a_plan_without_it_has_the_digest_that_it_had() -> None:
    assert (noised().needed, load_plan("quickstart").needed) == (0, load_plan("quickstart").quorum)
    assert noised().digest() != noised("privacy.budget=5").digest()
    assert "privacy" not in load_plan("quickstart").model_dump(exclude_defaults=True)


def test_a_cohort_that_is_not_as_expected_is_remarked_on() -> None:
    plan = noised("algorithm.rule.expected=50")
    assert "algorithm.rule.expected: 50, but a cohort weighs 10 on average" in remarks(plan, plan.federation())
    assert not [said for said in remarks(noised(), noised().federation()) if "expected" in said]
