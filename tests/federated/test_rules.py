"""Aggregation rules: laws over the family, and oracles for those that are sums."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.rules import CustomRule, FedNova, FixedMean, Mean, Rule, WeightedMean
from federated.updates import Update
from tests.fakes import update
from tests.federated.families import RULES, USER_CODE

each_rule = pytest.mark.parametrize("rule", RULES, ids=repr)
each_averaging_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.averages], ids=repr)
each_additive_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.additive], ids=repr)
each_agreeing_rule = pytest.mark.parametrize(
    "rule", [rule for rule in RULES if getattr(rule, "q", 0) == 0 and rule.share is None], ids=repr
)
"""All but fair rules with a power, which step the shorter the larger the updates are, and those of fixed shares."""
each_needy_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.least], ids=repr)


def cohort(clients: int = 7, size: int = 5, seed: int = 0) -> list[Update]:
    rng = np.random.default_rng(seed)
    return [
        replace(
            update(f"client-{number}", rng.normal(size=size), float(rng.integers(1, 100))), loss=float(rng.random())
        )
        for number in range(clients)
    ]


def aggregate(rule, updates, rounds: int = 1):
    """The last of some rounds with the same updates; the server's own update is the first client's."""
    state = rule.init(5)
    for _ in range(rounds):
        guided = rule.guided(state, updates[0].delta) if updates else state
        state, result, _ = rule.next(guided, updates)
    return result


@each_rule
def test_the_order_of_the_clients_does_not_matter(rule) -> None:
    updates = cohort()
    for seed in range(5):
        shuffled = [updates[i] for i in np.random.default_rng(seed).permutation(len(updates))]
        expected, found = (
            rule.next(rule.guided(rule.init(5), np.ones(5, np.float32)), some).result for some in (updates, shuffled)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        if not rule.additive and not isinstance(rule, CustomRule):
            np.testing.assert_array_equal(found, expected)


@each_agreeing_rule
@pytest.mark.parametrize("more", [0, 1, 2, 9])
def test_agreement_is_a_fixed_point(rule, more) -> None:
    """Within three rounds, for a rule that may not move so far in one."""
    delta = np.array([1.5, -2.0, 0.0, 1e-3, 1e3], np.float32)
    agreed = [replace(update(f"client-{n}", delta, 10.0 + n), loss=0.5) for n in range(rule.least + more)]
    np.testing.assert_allclose(aggregate(rule, agreed, rounds=3), delta, rtol=1e-6)


@each_rule
def test_zero_updates_are_no_step(rule) -> None:
    idle = [replace(update(f"client-{n}", np.zeros(5)), loss=0.0) for n in range(rule.least)]
    np.testing.assert_array_equal(aggregate(rule, idle, rounds=2), np.zeros(5))


@each_rule
def test_updates_of_no_parameters_have_an_aggregate_of_none(rule) -> None:
    empty = [replace(update(f"client-{n}", []), loss=1.0) for n in range(rule.least)]
    state = rule.guided(rule.init(0), np.zeros(0, np.float32))
    assert rule.next(state, empty).result.shape == (0,)


@each_averaging_rule
def test_the_aggregate_lies_between_the_smallest_and_the_largest_update(rule) -> None:
    updates = cohort()
    matrix, result = np.array([u.delta for u in updates]), aggregate(rule, updates)
    assert (result >= matrix.min(axis=0)).all()
    assert (result <= matrix.max(axis=0)).all()


@each_rule
def test_the_aggregate_is_one_vector_float64_for_noise_and_leaves_the_updates_alone(rule) -> None:
    updates = cohort()
    before = [u.delta.copy() for u in updates]
    result = aggregate(rule, updates)
    assert result.dtype == (np.float32 if rule.share is None else np.float64)
    assert result.shape == (5,)
    result[:] = 0
    for u, delta in zip(updates, before, strict=True):
        np.testing.assert_array_equal(u.delta, delta)


@each_needy_rule
def test_a_rule_without_updates_says_what_it_needs(rule) -> None:
    with pytest.raises(ValueError, match=rf"^\w+.* needs at least {rule.least} updates?, got 0"):
        aggregate(rule, [])


@each_needy_rule
def test_one_update_too_few_is_refused_and_the_least_is_taken(rule) -> None:
    assert aggregate(rule, cohort(clients=rule.least)).shape == (5,)
    with pytest.raises(ValueError, match=rf"needs at least {rule.least} updates?, got {rule.least - 1}$"):
        aggregate(rule, cohort(clients=rule.least - 1))


@each_additive_rule
def test_an_additive_rule_consumes_a_stream_and_holds_no_matrix(rule) -> None:
    living: list[weakref.ref] = []
    most = 0

    def stream():
        nonlocal most
        for number in range(20):
            delta = np.full(5, number, np.float32)
            living.append(weakref.ref(delta))
            yield Update(f"client-{number}", delta, 1.0)
            del delta
            most = max(most, sum(ref() is not None for ref in living))

    total = 20 if rule.share is None else 1 / rule.share
    np.testing.assert_allclose(rule.next(rule.init(5), stream()).result, np.full(5, 190 / total), rtol=1e-6)
    assert len(living) == 20
    assert most <= 2


def test_the_mean_is_numpys_mean_whatever_the_weights() -> None:
    updates = cohort(clients=50, size=30, seed=1)
    expected = np.mean([u.delta.astype(np.float64) for u in updates], axis=0)
    np.testing.assert_allclose(Mean().next(None, updates).result, expected, rtol=1e-4, atol=1e-6)


def test_the_weighted_mean_is_numpys_average_by_training_examples() -> None:
    updates = cohort(clients=50, size=30, seed=2)
    matrix = np.array([u.delta for u in updates], np.float64)
    expected = np.average(matrix, axis=0, weights=[u.weight for u in updates])
    result = WeightedMean().next(None, updates).result
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cap", [None, 40])
def test_the_fixed_mean_is_the_capped_sum_over_what_is_expected_whoever_is_there(cap) -> None:
    rule = FixedMean(expected=8.0, cap=cap)
    rows = {f"client-{n}": n for n in range(1, 50)}
    updates = [update(name, np.full(5, n), rule.weigh(name, {}, n)) for name, n in rows.items()]
    weights = np.minimum(np.arange(1, 50) / cap, 1) if cap else np.ones(49)
    expected = np.full(5, (weights * np.arange(1, 50)).sum() / 8)
    np.testing.assert_allclose(aggregate(rule, updates), expected, rtol=1e-5)
    np.testing.assert_array_equal(aggregate(rule, []), np.zeros(5, np.float32))


def test_a_client_that_says_it_weighs_more_counts_as_one() -> None:
    boasting = [update("a", [3.0] * 5, 1e9), update("b", [1.0] * 5, -7.0)]
    np.testing.assert_array_equal(aggregate(FixedMean(expected=1.0), boasting), np.full(5, 3.0, np.float32))


def test_the_weighted_mean_of_equal_clients_is_the_mean() -> None:
    updates = [update(u.client, u.delta, 32.0) for u in cohort()]
    np.testing.assert_allclose(WeightedMean().next(None, updates).result, Mean().next(None, updates).result, rtol=1e-5)


@pytest.mark.parametrize(
    "weights",
    [
        [0.0, 1.0, 2.0],
        [0.0, 0.0, 5.0, 0.0],
        [1.0, 1e-9, 1e9, 3.0],
        [1e-30, 1.0, 1e-30],
        [10.0 ** -(5 * n) for n in range(8)],
    ],
    ids=repr,
)
def test_weights_may_be_zero_and_differ_as_much_as_they_like(weights) -> None:
    matrix = np.random.default_rng(4).normal(size=(len(weights), 300_000)).astype(np.float32)
    updates = [update(f"client-{n}", row, weight) for n, (row, weight) in enumerate(zip(matrix, weights, strict=True))]
    expected = np.average(matrix.astype(np.float64), axis=0, weights=weights)
    np.testing.assert_allclose(WeightedMean().next(None, updates).result, expected, rtol=1e-4, atol=1e-6)
    fednova = FedNova().next(None, updates).result
    np.testing.assert_allclose(fednova, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", [WeightedMean(), FedNova()], ids=repr)
def test_weights_that_sum_to_nothing_are_refused(rule) -> None:
    with pytest.raises(ValueError, match=rf"{rule.kind} needs a positive total weight, got 0\.0"):
        rule.next(None, [update("a", [1.0], 0.0)])


def stepped(clients: int = 7) -> list[Update]:
    """Updates of clients that took different numbers of steps."""
    return [replace(one, local_steps=1.0 + 3 * number) for number, one in enumerate(cohort(clients))]


def test_fednova_is_the_papers_equation() -> None:
    """Wang et al. 2020, equation 13: the mean of normalised updates, times the mean number of steps."""
    updates = stepped()
    shares = np.array([u.weight for u in updates]) / sum(u.weight for u in updates)
    steps = np.array([u.local_steps for u in updates])
    normalised = np.array([u.delta.astype(np.float64) / u.local_steps for u in updates])
    _, result, metrics = FedNova().next(None, updates)
    np.testing.assert_allclose(result, (shares @ steps) * (shares @ normalised), rtol=1e-5)
    assert metrics == {"effective_steps": pytest.approx(shares @ steps)}


@pytest.mark.parametrize("steps", [1.0, 7.0, 61.5])
def test_fednova_with_equal_steps_is_the_weighted_mean(steps) -> None:
    updates = [replace(one, local_steps=steps) for one in cohort(clients=30, seed=3)]
    expected = WeightedMean().next(None, updates).result
    np.testing.assert_allclose(FedNova().next(None, updates).result, expected, rtol=1e-5, atol=1e-6)


def test_the_weighted_mean_counts_clients_as_the_plan_says() -> None:
    rule = WeightedMean(by="quality", weights={"client-1": 0.0, "client-2": 7.5})
    assert rule.weigh("client-1", {}, 100) == 0.0
    assert rule.weigh("client-2", {"quality": 3}, 100) == 7.5
    assert rule.weigh("client-3", {"quality": 3, "site": "north"}, 100) == 3.0
    assert WeightedMean().weigh("client-3", {"examples": 5}, 100) == 100.0
    assert rule.named == {"client-1", "client-2"}


@pytest.mark.parametrize("card", [{}, {"quality": "good"}, {"quality": -1}, {"quality": np.nan}, {"quality": np.inf}])
def test_a_card_that_does_not_say_what_to_weigh_by_is_refused_with_the_clients_name(card) -> None:
    rule = WeightedMean(by="quality")
    with pytest.raises(
        DataError, match=r"weighted_mean\.by: expected a number of at least 0 called 'quality' .* client a,"
    ):
        rule.weigh("a", card, 100)


@each_rule
def test_what_a_rule_does_not_weigh_counts_its_examples(rule) -> None:
    if rule.share is not None:
        assert 0 < rule.weigh("client-1", {}, 33) <= 1
        return
    assert rule.weigh("client-1", {"quality": 4.0}, 33) == {"quality": 0.5}.get(getattr(rule, "by", ""), 33.0)


def test_a_custom_rule_passes_on_whatever_a_rule_may_be_asked() -> None:
    asked = [name for name in vars(Rule) if not name.startswith(("_", "model_"))]
    assert {"least", "robust", "needs_loss", "needs_root", "named", "weigh", "guided", "next"} <= set(asked)
    assert [name for name in asked if name not in vars(CustomRule)] == []
    own = CustomRule(target="federated.rules:Krum", options={"byzantine": 2})
    assert (own.least, own.robust, own.additive, own.averages) == (7, True, False, True)
    assert CustomRule(target="federated.rules:FlTrust").needs_root
    assert CustomRule(target="federated.rules:QFedAvg", options={"lipschitz": 1.0}).needs_loss
    weighted = CustomRule(target="federated.rules:WeightedMean", options={"by": "quality", "weights": {"b": 2.0}})
    assert weighted.weigh("a", {"quality": 4.0}, 1) == 4.0
    assert weighted.named == {"b"}


def test_a_custom_rule_is_the_users_own_with_its_options_and_its_state() -> None:
    rule = CustomRule(target=f"{USER_CODE}:Median", options={"factor": 2.0})
    updates = cohort(clients=9)
    state, result, metrics = rule.next(rule.init(5), updates)
    np.testing.assert_allclose(result, 2 * np.median([u.delta for u in updates], axis=0), rtol=1e-6)
    assert state == 6
    assert metrics == {"rows": 1.0}


def test_a_custom_rule_that_is_no_rule_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"user_code:load_numbers': expected it to give a Rule, got list"):
        CustomRule(target=f"{USER_CODE}:load_numbers")
