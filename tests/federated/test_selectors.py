"""Selectors: laws over the family, and an oracle for each member."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from federated.selectors import All, Uniform
from tests.federated.families import SELECTORS

CLIENTS = ["hospital-c", "hospital-a", "bank", "device-10", "device-9", "lab", "shop"]

each_selector = pytest.mark.parametrize("selector", SELECTORS, ids=repr)


def draw(selector, clients=CLIENTS, seed: int = 0):
    return selector.select(1, clients, np.random.default_rng(seed))


@each_selector
def test_a_cohort_is_as_large_as_promised(selector) -> None:
    assert len(draw(selector)) == selector.cohort_size(len(CLIENTS))


@each_selector
@pytest.mark.parametrize("seed", range(5))
def test_a_cohort_is_a_sorted_set_of_known_clients(selector, seed) -> None:
    cohort = draw(selector, seed=seed)
    assert list(cohort) == sorted(set(cohort))
    assert set(cohort) <= set(CLIENTS)
    assert all(type(name) is str for name in cohort)


@each_selector
@pytest.mark.parametrize("seed", range(5))
def test_the_same_randomness_draws_the_same_cohort_in_whatever_order_clients_come(selector, seed) -> None:
    cohort = draw(selector, seed=seed)
    assert draw(selector, seed=seed) == cohort
    assert draw(selector, CLIENTS[::-1], seed) == cohort
    assert draw(selector, tuple(sorted(CLIENTS)), seed) == cohort


def test_all_means_everyone() -> None:
    assert draw(All()) == tuple(sorted(CLIENTS))


def test_uniform_draws_every_client_equally_often() -> None:
    rng = np.random.default_rng(0)
    drawn = [name for _ in range(2000) for name in Uniform(cohort=3).select(1, CLIENTS, rng)]
    counts = [drawn.count(name) for name in CLIENTS]
    assert sum(counts) == 6000
    assert stats.chisquare(counts).pvalue > 0.01


def test_uniform_refuses_more_clients_than_there_are() -> None:
    with pytest.raises(ValueError, match="uniform with cohort=8 needs as many clients, got 7"):
        draw(Uniform(cohort=8))
