"""Selectors: laws over the family, and an oracle for each member."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from federated.algorithm import Algorithm
from federated.data import Client
from federated.errors import PlanError
from federated.rounds import select
from federated.selectors import (
    All,
    Available,
    BySize,
    CustomSelector,
    Poisson,
    Pool,
    PowerOfChoice,
    Presence,
    RoundRobin,
    Selection,
    Stratified,
    Uniform,
)
from tests.fakes import FakeEngine, line_client
from tests.federated.families import SELECTORS

CLIENTS = ["hospital-c", "hospital-a", "bank", "device-10", "device-9", "lab", "shop"]
ROWS = dict(zip(CLIENTS, (40, 10, 200, 5, 5, 30, 60), strict=True))
TIERS = dict(zip(CLIENTS, ("gold", "gold", "iron", "tin", "tin", "tin", "tin"), strict=True))
LOSSES = {name: float(len(name)) for name in CLIENTS}

each_selector = pytest.mark.parametrize("selector", SELECTORS, ids=repr)


def pool_of(clients=CLIENTS) -> Pool:
    rows, cards = {name: ROWS[name] for name in clients}, {name: {"tier": TIERS[name]} for name in clients}
    return Pool(rows, cards, lambda names: {name: LOSSES[name] for name in names})


def draw(selector, clients=CLIENTS, seed: int = 0, round: int = 1) -> Selection:
    return selector.select(round, pool_of(clients), np.random.default_rng(seed))


def counts(selector, draws: int = 3000) -> Counter[str]:
    rng = np.random.default_rng(0)
    return Counter(name for _ in range(draws) for name in selector.select(1, pool_of(), rng).cohort)


@each_selector
def test_a_cohort_is_as_large_as_promised_on_average(selector) -> None:
    sizes = [len(draw(selector, seed=seed, round=seed + 1).cohort) for seed in range(400)]
    assert selector.cohort_size(len(CLIENTS)) - 1 < np.mean(sizes) <= selector.cohort_size(len(CLIENTS))


@each_selector
@pytest.mark.parametrize("seed", range(5))
def test_a_cohort_is_a_sorted_set_of_eligible_clients(selector, seed) -> None:
    cohort, eligible, reasons = draw(selector, seed=seed)
    assert list(cohort) == sorted(set(cohort))
    assert list(eligible) == sorted(set(eligible))
    assert set(cohort) <= set(eligible) <= set(CLIENTS)
    assert set(reasons) <= set(eligible)
    assert all(type(name) is str for name in (*cohort, *eligible))
    assert all(reasons.values())


@each_selector
@pytest.mark.parametrize("seed", range(5))
def test_the_same_randomness_draws_the_same_cohort_in_whatever_order_clients_come(selector, seed) -> None:
    selection = draw(selector, seed=seed)
    assert draw(selector, seed=seed) == selection
    assert draw(selector, CLIENTS[::-1], seed) == selection
    assert draw(selector, tuple(sorted(CLIENTS)), seed) == selection


def test_all_means_everyone() -> None:
    assert draw(All()).cohort == draw(All()).eligible == tuple(sorted(CLIENTS))


def test_uniform_draws_every_client_equally_often() -> None:
    drawn = counts(Uniform(cohort=3))
    assert drawn.total() == 9000
    assert stats.chisquare([drawn[name] for name in CLIENTS]).pvalue > 0.01


@pytest.mark.parametrize(
    "selector", [Uniform(cohort=8), BySize(cohort=8), RoundRobin(cohort=8), Stratified(cohort=8, tag="tier")], ids=repr
)
def test_more_clients_than_there_are_cannot_be_drawn(selector) -> None:
    with pytest.raises(ValueError, match=f"{selector.kind} with cohort=8 needs as many clients, got 7"):
        draw(selector)


def test_poisson_draws_each_client_by_itself() -> None:
    """Sizes are binomial, and two clients are no likelier together than apart."""
    rng, selector = np.random.default_rng(1), Poisson(rate=0.3)
    cohorts = [selector.select(1, pool_of(), rng).cohort for _ in range(4000)]
    sizes = np.bincount([len(cohort) for cohort in cohorts], minlength=8)
    expected = stats.binom.pmf(np.arange(8), 7, 0.3) * 4000
    assert stats.chisquare([*sizes[:5], sizes[5:].sum()], [*expected[:5], expected[5:].sum()]).pvalue > 0.01
    both = sum({"bank", "lab"} <= set(cohort) for cohort in cohorts)
    assert stats.binomtest(both, 4000, 0.09).pvalue > 0.01
    assert sizes[0] > 0


def test_by_size_draws_the_first_by_its_share_of_the_rows() -> None:
    drawn = counts(BySize(cohort=1))
    expected = np.array([ROWS[name] for name in CLIENTS]) / sum(ROWS.values()) * 3000
    assert stats.chisquare([drawn[name] for name in CLIENTS], expected).pvalue > 0.01
    assert draw(BySize(cohort=7)).reasons["bank"] == "200 of 350 rows"


def test_round_robin_gives_everyone_the_same_number_of_turns() -> None:
    cohorts = [draw(RoundRobin(cohort=3), round=number).cohort for number in range(1, 8)]
    assert set(Counter(name for cohort in cohorts for name in cohort).values()) == {3}
    names = sorted(CLIENTS)
    assert cohorts[0] == tuple(names[:3])
    assert set(cohorts[2]) == {names[6], names[0], names[1]}


@pytest.mark.parametrize("cohort", range(1, 8))
def test_round_robin_knows_how_often_a_client_comes_at_most(cohort: int) -> None:
    selector = RoundRobin(cohort=cohort)
    turns = Counter[str]()
    for number in range(1, 20):
        turns.update(draw(selector, round=number).cohort)
        assert max(turns.values()) == selector.most_turns(number, len(CLIENTS))


@each_selector
def test_no_selector_says_that_a_client_comes_less_often_than_it_does(selector) -> None:
    turns = Counter[str]()
    for number in range(1, 12):
        turns.update(draw(selector, round=number).cohort)
        assert max(turns.values(), default=0) <= selector.most_turns(number, len(CLIENTS))


def test_power_of_choice_takes_the_largest_losses_of_its_candidates() -> None:
    selector = PowerOfChoice(cohort=2, candidates=4)
    for seed in range(20):
        cohort, _, reasons = draw(selector, seed=seed)
        assert len(reasons) == 4
        ranked = sorted(reasons, key=lambda name: (-LOSSES[name], name))
        assert set(cohort) == set(ranked[:2])
        assert reasons[ranked[0]] == f"loss {LOSSES[ranked[0]]:.6g}, rank 1 of 4"


def test_power_of_choice_asks_no_one_but_its_candidates_and_takes_a_client_without_a_loss_first() -> None:
    asked = []

    def losses(names):
        asked.extend(names)
        return {name: float("nan") if name == "lab" else 1.0 for name in names}

    pool = pool_of()._replace(losses=losses)
    selections = [PowerOfChoice(cohort=1, candidates=3).select(1, pool, np.random.default_rng(s)) for s in range(9)]
    assert len(asked) == 27
    assert all(found.cohort == ("lab",) for found in selections if "lab" in found.reasons)


def test_power_of_choice_among_as_many_candidates_as_it_takes_is_by_size() -> None:
    chosen, drawn = PowerOfChoice(cohort=3, candidates=3), BySize(cohort=3)
    assert all(draw(chosen, seed=seed).cohort == draw(drawn, seed=seed).cohort for seed in range(9))


def test_the_loss_that_a_selector_asks_for_is_that_of_the_model_on_the_training_rows() -> None:
    clients = {name: line_client(name, seed=seed) for seed, name in enumerate("abcde")}
    params, engine = np.array([0.4, -1.0], np.float32), FakeEngine()
    algorithm = Algorithm(select=PowerOfChoice(cohort=2, candidates=5))
    by_hand = {
        name: np.mean((0.4 * client.train.x[:, 0] - 1.0 - client.train.y) ** 2) for name, client in clients.items()
    }
    cohort = select(algorithm, engine, 1, params, clients).cohort
    assert cohort == tuple(sorted(sorted(by_hand, key=by_hand.__getitem__)[-2:]))


def test_stratified_takes_its_share_of_every_group() -> None:
    for seed in range(9):
        drawn = Counter(TIERS[name] for name in draw(Stratified(cohort=4, tag="tier"), seed=seed).cohort)
        assert drawn == {"gold": 1, "iron": 1, "tin": 2}
    assert Counter(TIERS[name] for name in draw(Stratified(cohort=6, tag="tier")).cohort)["tin"] == 3
    assert len(draw(Stratified(cohort=2, tag="tier")).cohort) == 2
    assert draw(Stratified(cohort=7, tag="tier")).reasons["bank"] == "tier iron"


def test_stratified_draws_equally_within_a_group() -> None:
    drawn = counts(Stratified(cohort=4, tag="tier"))
    tin = [drawn[name] for name in CLIENTS if TIERS[name] == "tin"]
    assert sum(tin) == 6000
    assert stats.chisquare(tin).pvalue > 0.01


def test_stratified_names_the_client_whose_card_lacks_the_tag() -> None:
    with pytest.raises(PlanError, match=r"algorithm\.select\.stratified\.tag: the card of client bank has no 'speed'"):
        draw(Stratified(cohort=3, tag="speed"))


def test_who_cannot_be_reached_is_not_eligible() -> None:
    away = Available(cohort=3, clients={"bank": Presence(probability=0), "lab": Presence(cycle=3, at=(2,))})
    for seed in range(9):
        eligible = draw(away, seed=seed, round=1).eligible
        assert eligible == tuple(sorted(set(CLIENTS) - {"bank", "lab"}))
        assert draw(away, seed=seed, round=5).eligible == tuple(sorted(set(CLIENTS) - {"bank"}))


def test_presence_and_finishing_are_as_likely_as_the_plan_says() -> None:
    selector, rng = Available(cohort=2, presence=Presence(probability=0.25)), np.random.default_rng(0)
    there = Counter(name for _ in range(2000) for name in selector.select(1, pool_of(), rng).eligible)
    assert all(stats.binomtest(there[name], 2000, 0.25).pvalue > 0.001 for name in CLIENTS)
    finishing = Available(cohort=7, finish=0.6)
    sizes = [len(finishing.select(1, pool_of(), rng).cohort) for _ in range(2000)]
    assert stats.binomtest(sum(sizes), 14000, 0.6).pvalue > 0.001


def test_over_selection_takes_the_first_to_finish_and_says_what_became_of_the_others() -> None:
    selector = Available(cohort=3, over=1.9, finish=0.8)
    for seed in range(50):
        cohort, _, reasons = draw(selector, seed=seed)
        said = Counter(reason.rstrip(" 0123456789") for reason in reasons.values())
        assert len(reasons) == 6
        assert said["finished as number"] == len(cohort) == min(6 - said["invited, did not finish"], 3)
        assert said["finished, after the first"] == 3 - said["invited, did not finish"] or len(cohort) < 3
    sizes = [len(draw(Available(cohort=3, finish=0.8), seed=seed).cohort) for seed in range(200)]
    over = [len(draw(selector, seed=seed).cohort) for seed in range(200)]
    assert np.mean(over) > np.mean(sizes) + 0.3


def test_nobody_there_is_an_empty_cohort() -> None:
    assert draw(Available(cohort=3, presence=Presence(probability=0))) == Selection((), (), {})


def test_a_cycle_does_not_hold_rounds_beyond_its_end() -> None:
    with pytest.raises(ValidationError, match=r"at: rounds of a cycle of 3 are 1 … 3, got 4"):
        Presence(cycle=3, at=(1, 4))


def test_fewer_candidates_than_are_chosen_are_refused() -> None:
    with pytest.raises(ValidationError, match="candidates must be at least cohort, got 2 and 3"):
        PowerOfChoice(cohort=3, candidates=2)


def test_a_custom_selector_is_the_users_own_with_its_options() -> None:
    own = CustomSelector(target="federated.selectors:Uniform", options={"cohort": 2})
    assert draw(own, seed=4) == draw(Uniform(cohort=2), seed=4)
    assert own.cohort_size(7) == 2
    with pytest.raises(ValidationError, match="expected a Selector"):
        CustomSelector(target="federated.rules:Mean")


def test_a_client_without_a_card_is_told_what_to_add() -> None:
    clients: dict[str, Client] = {name: line_client(name) for name in "ab"}
    algorithm = Algorithm(select=Stratified(cohort=1, tag="tier"))
    with pytest.raises(PlanError, match=r"add it under cards: \{a: \{tier: …\}\}"):
        select(algorithm, FakeEngine(), 1, np.zeros(2, np.float32), clients)
