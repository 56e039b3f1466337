"""Poisson numbers, of which the noise of whole numbers is made."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from federated.randomness import poisson, poisson_log_probability, secret_uniforms


@pytest.mark.parametrize("draw", [np.random.default_rng(5).random, secret_uniforms], ids=["seeded", "secret"])
def test_poisson_numbers_are_as_frequent_as_they_should_be(draw) -> None:
    drawn = poisson(1e3, 200_000, draw)
    edges = np.arange(900, 1101, 5)
    observed = np.histogram(drawn, np.concatenate([[-np.inf], edges + 0.5, [np.inf]]))[0]
    expected = np.diff(np.concatenate([[0], stats.poisson.cdf(edges, 1e3), [1]])) * drawn.size
    assert stats.chisquare(observed, expected).pvalue > 1e-6


@pytest.mark.parametrize("mean", [2.0**31, 2.0**50])
def test_poisson_numbers_of_a_large_mean_are_normal(mean) -> None:
    scaled = (poisson(mean, 200_000, np.random.default_rng(6).random) - mean) / math.sqrt(mean)
    assert stats.kstest(scaled, "norm").pvalue > 1e-6
    assert np.var(scaled) == pytest.approx(1.0, rel=0.025)


@pytest.mark.parametrize("end", [0.0, 1 - 2.0**-53])
def test_the_ends_of_chance_are_no_numbers(end) -> None:
    """Proposals from there are never taken, or are near the mean."""
    mixed = iter(range(10**6))

    def draw(count: int) -> np.ndarray:
        return np.where(np.array([next(mixed) % 3 == 0 for _ in range(count)]), end, 0.5)

    assert np.abs(poisson(1e4, 50, draw) - 1e4).max() < 1e3


@pytest.mark.parametrize("mean", [0.0, 999.0, 2.0**51, math.nan])
def test_a_mean_that_is_too_small_or_too_large_is_refused(mean) -> None:
    with pytest.raises(ValueError, match="expected a mean from 1000 to"):
        poisson(mean, 1, secret_uniforms)


def test_no_poisson_numbers_are_an_array_of_none() -> None:
    assert poisson(1e3, 0, secret_uniforms).shape == (0,)


@pytest.mark.parametrize("mean", [1e3, 2.0**20])
def test_their_probability_is_scipys(mean) -> None:
    near = np.floor(mean + np.linspace(-8, 8, 101) * math.sqrt(mean))
    np.testing.assert_allclose(poisson_log_probability(near, mean), stats.poisson.logpmf(near, mean), atol=1e-7)
