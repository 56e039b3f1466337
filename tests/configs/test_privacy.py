"""Plans whose ε would not be true are refused, each with what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import epsilon_said, meaning
from configs.remarks import remarks
from federated.component import Step, Vector
from federated.data import Blanks, Dataset
from federated.errors import PlanError, TrainingError
from federated.rounds import initial_state, select
from federated.rules import Rule
from federated.selectors import Pool, Selection, Selector
from federated.updates import Update
from tests.fakes import FakeEngine, small_dataset

NOISE = "algorithm.transforms=[{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5}]"
SEEDED = "algorithm.transforms=[{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5, seeded: true}]"
DP_SGD = "local.dp_sgd={norm: 1, noise_multiplier: 2}"
GIVEN = "scaling={kind: given, mean: [8], std: [4]}"
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
        rest = ("quorum=1", "baselines=false", "stop=null", f"scaling={scaling}")
        return load_plan("quickstart", [f"algorithm.{DP_SGD}", LEDGER, *rest])

    assert hidden("{kind: given, mean: [8], std: [4]}").algorithm.unit == "record"
    for fitted in ("{kind: standardize}", "{kind: standardize, per: client}"):
        with pytest.raises(PlanError, match="which dp_sgd does not count; use given, divide, or as_is"):
            hidden(fitted)


def test_records_are_counted_by_clients_that_no_chance_makes() -> None:
    def hidden(*rest: str) -> Plan:
        beside = ("quorum=1", "baselines=false", "stop=null", GIVEN)
        return load_plan("quickstart", [f"algorithm.{DP_SGD}", LEDGER, *beside, *rest])

    with pytest.raises(PlanError, match=r"^partition\.dirichlet: what a record has paid is counted by the client"):
        hidden().federation()
    assert hidden("simulation=true").federation()


@pytest.mark.parametrize("noise", ["transforms=[{kind: local_gaussian, norm: 1, noise_multiplier: 2}]", DP_SGD])
def test_a_rule_that_trains_on_the_servers_rows_is_refused_beside_noise(noise: str) -> None:
    with pytest.raises(PlanError, match="rule fltrust trains on the server's own rows, which no noise hides"):
        load_plan("quickstart", [f"algorithm.{noise}", LEDGER, "algorithm.rule={kind: fltrust}", "holdout.root=0.05"])


def with_gaps() -> Dataset:
    """Rows of which some values are to be filled by all clients' mean."""
    found = small_dataset(120)
    return replace(found, blanks=Blanks(np.zeros(found.rows.x.shape, np.bool_), "mean"))


def test_ones_own_source_may_not_have_values_filled_by_what_all_clients_hold() -> None:
    data = f"data={{kind: custom, target: '{__name__}:with_gaps'}}"
    with pytest.raises(PlanError, match=r"^data\.custom: values would be filled by numbers found from all"):
        noised(data, "partition={kind: iid, clients: 4}", "model={kind: logistic}").federation()


def test_a_delta_that_allows_to_reveal_a_client_is_refused() -> None:
    with pytest.raises(
        PlanError, match=r"^privacy\.delta: 0\.2 with 20 clients allows to reveal one of them; set it well"
    ):
        noised("privacy.delta=0.2").federation()
    assert noised("privacy.delta=0.01").federation()


def test_batch_normalisation_is_refused_because_its_statistics_are_not_noised() -> None:
    with pytest.raises(PlanError, match="fixed_mean cannot average what no gradient moves"):
        initial_state(noised().algorithm, FakeEngine(statistics=2), 10)
    own = noised(f"algorithm.rule={{kind: custom, target: '{__name__}:Sum'}}")
    with pytest.raises(PlanError, match="no noise hides what no gradient moves"):
        initial_state(own.algorithm, FakeEngine(statistics=2), 10)
    assert initial_state(own.algorithm, FakeEngine(), 10)


class Sum(Rule):
    """A sum that says what one client counts in it, and nothing of moving statistics."""

    @property
    def share(self) -> float | None:
        return 1.0

    @property
    def least(self) -> int:
        return 0

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return Step(state, np.sum([update.delta for update in updates], axis=0), {})


class Curious(Selector):
    """Says that it goes by nothing, and asks for losses."""

    def cohort_size(self, clients: int) -> int:
        return 1

    def select(self, round: int, pool: Pool, rng: np.random.Generator) -> Selection:
        assert set(pool.rows.values()) == {1}
        worst = max(losses := pool.losses(pool.names), key=lambda name: losses[name])
        return Selection((worst,), pool.names, {})


def test_a_selector_is_told_no_more_than_it_says_that_it_asks_for() -> None:
    noise = "algorithm.transforms=[{kind: local_gaussian, norm: 1, noise_multiplier: 2}]"
    curious = f"algorithm.select={{kind: custom, target: '{__name__}:Curious'}}"
    plan = noised(noise, "algorithm.rule={kind: mean}", curious)
    clients = plan.federation().clients
    with pytest.raises(TrainingError, match="select custom asks clients for losses, which no noise hides, and does"):
        select(plan.algorithm, FakeEngine(), 1, np.zeros(2, np.float32), clients)


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
