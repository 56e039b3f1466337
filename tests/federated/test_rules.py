"""Aggregation rules: laws over the family, and an oracle for each member."""

from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from federated.rules import CustomRule, FedNova, Mean, WeightedMean
from federated.updates import Update
from tests.fakes import update
from tests.federated.families import RULES, USER_CODE

each_rule = pytest.mark.parametrize("rule", RULES, ids=repr)
each_averaging_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.averages], ids=repr)
each_additive_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.additive], ids=repr)


def cohort(clients: int = 7, size: int = 5, seed: int = 0) -> list[Update]:
    rng = np.random.default_rng(seed)
    return [update(f"client-{number}", rng.normal(size=size), float(rng.integers(1, 100))) for number in range(clients)]


def aggregate(rule, updates):
    return rule.next(rule.init(5), updates).result


@each_rule
def test_the_order_of_the_clients_does_not_matter(rule) -> None:
    updates = cohort()
    for seed in range(5):
        shuffled = [updates[i] for i in np.random.default_rng(seed).permutation(len(updates))]
        np.testing.assert_allclose(aggregate(rule, shuffled), aggregate(rule, updates), rtol=1e-5, atol=1e-6)


@each_rule
@pytest.mark.parametrize("clients", [1, 2, 9])
def test_agreement_is_a_fixed_point(rule, clients) -> None:
    delta = np.array([1.5, -2.0, 0.0, 1e-3, 1e3], np.float32)
    agreed = [update(f"client-{n}", delta, 10.0 + n) for n in range(clients)]
    np.testing.assert_allclose(aggregate(rule, agreed), delta, rtol=1e-6)


@each_averaging_rule
def test_the_aggregate_lies_between_the_smallest_and_the_largest_update(rule) -> None:
    updates = cohort()
    matrix, result = np.array([u.delta for u in updates]), aggregate(rule, updates)
    assert (result >= matrix.min(axis=0)).all()
    assert (result <= matrix.max(axis=0)).all()


@each_rule
def test_the_aggregate_is_one_float32_vector_and_leaves_the_updates_alone(rule) -> None:
    updates = cohort()
    before = [u.delta.copy() for u in updates]
    result = aggregate(rule, updates)
    assert result.dtype == np.float32
    assert result.shape == (5,)
    result[:] = 0
    for u, delta in zip(updates, before, strict=True):
        np.testing.assert_array_equal(u.delta, delta)


@each_rule
def test_a_rule_without_updates_says_what_it_needs(rule) -> None:
    with pytest.raises(ValueError, match=r"\w+ needs at least \d+ updates?, got 0"):
        aggregate(rule, [])


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

    np.testing.assert_allclose(aggregate(rule, stream()), np.full(5, 9.5))
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


def test_the_weighted_mean_of_equal_clients_is_the_mean() -> None:
    updates = [update(u.client, u.delta, 32.0) for u in cohort()]
    np.testing.assert_allclose(WeightedMean().next(None, updates).result, Mean().next(None, updates).result, rtol=1e-5)


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
