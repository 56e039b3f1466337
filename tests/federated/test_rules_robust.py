"""Laws of rules that hold the cohort: liars, huge numbers, memory, and the same bits whatever computes them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from federated.rules import (
    CenteredClip,
    CustomRule,
    FlTrust,
    GeometricMedian,
    Mean,
    Median,
    NormBoundedMean,
    TrimmedMean,
    WeightedMean,
    columns,
)
from federated.updates import Update
from tests.fakes import update
from tests.federated.families import RULES

HOLDING = [rule for rule in RULES if not rule.additive and not isinstance(rule, CustomRule)]
each_robust_rule = pytest.mark.parametrize("rule", [rule for rule in RULES if rule.robust], ids=repr)
each_holding_rule = pytest.mark.parametrize("rule", HOLDING, ids=repr)

SIZE, HONEST = 30, 20
POINT = 1000 * np.random.default_rng(9).normal(size=SIZE) / np.sqrt(SIZE)
"""Where the honest are, about 1000 from zero and each about 1 from it."""


def honest(clients: int = HONEST, seed: int = 0) -> list[Update]:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(clients, SIZE)) / np.sqrt(SIZE)
    return [update(f"client-{n:02}", POINT + noise[n], 10.0) for n in range(clients)]


def liars(size: float, clients: int = 1, seed: int = 0) -> list[Update]:
    """Updates of a norm, all in the same direction, which claim to count more than all others."""
    way = np.random.default_rng(100 + seed).normal(size=SIZE)
    return [update(f"liar-{n}", size * way / np.linalg.norm(way), 1e6) for n in range(clients)]


def far(rule, updates: list[Update], rounds: int = 4) -> float:
    """How far the aggregate is from the honest mean, after rounds in which nobody lied."""
    trusted = honest()
    centre = np.mean([one.delta for one in trusted], axis=0, dtype=np.float64)
    state = rule.init(SIZE)
    for _ in range(rounds):
        state = rule.next(rule.guided(state, trusted[0].delta), trusted).state
    result = rule.next(rule.guided(state, trusted[0].delta), updates).result
    return float(np.linalg.norm(result - centre))


def leeway(rule, lying: int) -> float:
    """How far so many liars may move the aggregate, as the rule's docstring says; the honest are within 1.6."""
    share = lying / (HONEST + lying)
    match rule:
        case NormBoundedMean():
            return 1.6 + 2 * share * (rule.bound or 1.01 * np.linalg.norm(POINT))
        case CenteredClip():
            return 1.6 + 2 * share * rule.radius * rule.iterations
        case FlTrust():  # each liar's trust is at most 1, as that of each of the honest nearly is
            return 3.2 + 2 * share * 1.01 * np.linalg.norm(POINT)
        case GeometricMedian():
            return 1.6 * 2 * (1 - share) / (1 - 2 * share)
        case _:
            return 1.6


@each_robust_rule
@pytest.mark.parametrize("size", [1e6, -1e6, 1e30, -1e30, 1e3, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_one_liar_cannot_drag_a_robust_rule(rule, size, seed) -> None:
    assert far(rule, honest() + liars(size, seed=seed)) <= leeway(rule, 1)


@each_robust_rule
@pytest.mark.parametrize("size", [1e6, -1e6])
def test_neither_can_as_many_liars_as_it_says_even_together(rule, size) -> None:
    lying = getattr(rule, "byzantine", 4)
    assert far(rule, honest() + liars(size, lying)) <= leeway(rule, lying)


@pytest.mark.parametrize("size", [1e3, 1e12, 1e30, 1e37])
@pytest.mark.parametrize(("trusted", "lying"), [(2, 1), (3, 2), (6, 4), (11, 9), (20, 19)])
def test_no_minority_drags_the_geometric_median_however_large_its_lies(trusted, lying, size) -> None:
    right = honest(trusted)
    rows = np.array([one.delta for one in right], np.float64)
    radius = np.linalg.norm(rows - rows.mean(axis=0), axis=1).max()
    share = lying / (trusted + lying)
    result = GeometricMedian().next(None, right + liars(size, lying)).result
    assert np.linalg.norm(result - rows.mean(axis=0)) <= 2 * (1 - share) / (1 - 2 * share) * radius


@pytest.mark.parametrize("rule", [Mean(), WeightedMean(), TrimmedMean(trim=0.0)], ids=repr)
@pytest.mark.parametrize("size", [1e6, -1e6])
def test_one_liar_drags_a_rule_that_is_not_robust(rule, size) -> None:
    assert not rule.robust
    assert far(rule, honest() + liars(size)) > 1e4


def test_a_trim_of_less_than_one_client_says_that_it_trimmed_nobody() -> None:
    assert TrimmedMean(trim=0.1).next(None, honest(9)).metrics == {"trimmed": 0.0}
    assert TrimmedMean(trim=0.1).next(None, honest(10)).metrics == {"trimmed": 2.0}


@each_robust_rule
def test_a_robust_rule_does_not_believe_what_clients_say_they_count(rule) -> None:
    updates = honest()
    boasting = [replace(one, weight=10.0**place) for place, one in enumerate(updates)]
    root = updates[0].delta
    plain, boasted = (rule.next(rule.guided(rule.init(SIZE), root), some).result for some in (updates, boasting))
    np.testing.assert_array_equal(plain, boasted)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(trim=0.4)], ids=repr)
def test_every_coordinate_lies_among_the_honest_ones(rule) -> None:
    trusted = np.array([one.delta for one in honest()])
    for size in (1e6, -1e6):
        result = rule.next(None, honest() + liars(size, 8)).result
        assert (trusted.min(axis=0) <= result).all()
        assert (result <= trusted.max(axis=0)).all()


@each_holding_rule
@pytest.mark.parametrize("size", [3e38, 1e-38])
def test_neither_the_largest_nor_the_smallest_numbers_break_a_rule(rule, size) -> None:
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(11, 4))
    updates = [replace(update(f"client-{n:02}", size * row), loss=1.0) for n, row in enumerate(signs)]
    root = rule.guided(rule.init(4), updates[0].delta)
    assert np.isfinite(rule.next(root, updates).result).all()


def bits(rule, updates: list[Update]) -> bytes:
    size = updates[0].delta.size
    state = rule.guided(rule.init(size), updates[0].delta)
    state = rule.guided(rule.next(state, updates).state, updates[0].delta)
    return rule.next(state, updates).result.tobytes()


def wide(clients: int = 11, size: int = 70_001) -> list[Update]:
    rng = np.random.default_rng(3)
    return [replace(update(f"client-{n:03}", rng.normal(size=size)), loss=float(rng.random())) for n in range(clients)]


@each_holding_rule
def test_the_number_of_threads_changes_no_bit(rule, monkeypatch) -> None:
    updates, found = wide(), set()
    for cores in (1, 2, 5):
        monkeypatch.setattr(columns, "_cores", lambda cores=cores: cores)
        found.add(bits(rule, updates))
    assert len(found) == 1


def digests() -> str:
    """What every rule makes of the same updates."""
    updates = wide(clients=40, size=20_011)
    return " ".join(hashlib.sha256(bits(rule, updates)).hexdigest()[:16] for rule in HOLDING)


def test_the_threads_of_the_linear_algebra_library_change_no_bit() -> None:
    program = "from tests.federated.test_rules_robust import digests; print(digests())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop().split()) == len(HOLDING)


@each_holding_rule
def test_a_column_does_not_depend_on_the_block_that_it_is_in(rule, monkeypatch) -> None:
    updates = wide(size=5000)
    once = np.frombuffer(bits(rule, updates), np.float32)
    monkeypatch.setattr(columns, "_WIDEST", 700)
    np.testing.assert_allclose(np.frombuffer(bits(rule, updates), np.float32), once, rtol=1e-6, atol=1e-9)


@each_holding_rule
def test_a_rule_needs_some_blocks_besides_the_updates_and_no_second_matrix(rule) -> None:
    updates = wide(clients=24, size=400_000)
    state = rule.guided(rule.init(400_000), updates[0].delta)
    rule.next(state, updates[: rule.least])  # what is made once does not count
    tracemalloc.start()
    rule.next(state, updates)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * updates[0].delta.nbytes / 2


@pytest.mark.parametrize("rule", [Mean(), WeightedMean()], ids=repr)
def test_a_mean_needs_one_vector_besides_the_updates(rule) -> None:
    updates = wide(clients=20, size=400_000)
    tracemalloc.start()
    rule.next(None, updates)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.1 * updates[0].delta.nbytes


@pytest.mark.parametrize("trim", [0.001, 0.05, 0.1, 0.2, 0.29, 0.3, 1 / 3, 0.34, 0.49])
def test_a_trimmed_mean_knows_from_how_many_updates_it_cuts_one(trim) -> None:
    rule = TrimmedMean(trim=trim)
    for clients, trimmed in ((rule.cuts_from - 1, 0.0), (rule.cuts_from, 2.0)):
        assert rule.next(None, honest(clients)).metrics["trimmed"] == trimmed
