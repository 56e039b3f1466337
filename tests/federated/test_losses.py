"""Privacy losses composed, against ``dp_accounting``'s own composition and against one in long double."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as known
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from scipy import fft, optimize, stats

from federated.privacy.accounting import COARSE, SelfComposed, epsilon, tight
from federated.privacy.losses import LossDistribution, Losses, epsilon_of, losses_of
from federated.privacy.releases import Gaussian

DELTAS = (1e-3, 1e-5, 1e-7)


@lru_cache
def gaussian(noise: float, rate: float = 1.0, interval: float = 1e-4) -> PrivacyLossDistribution:
    """The library's, when a test asks for it: to find one takes a while."""
    return known.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=interval)


def truncated() -> PrivacyLossDistribution:
    return known.from_truncated_subsampled_gaussian_mechanism(1000, 0.05, 80, 1.0, value_discretization_interval=5e-4)


MANY = {
    "one": (lambda: gaussian(1.0, 0.01), 1),
    "a thousand": (lambda: gaussian(1.0, 0.01), 1000),
    "coarsely": (lambda: gaussian(1.0, 0.1, 8e-4), 61),
    "seldom": (lambda: gaussian(0.7, 0.001, 5e-5), 3000),
    "weak noise": (lambda: gaussian(0.6, 0.02), 300),
    "no sampling": (lambda: gaussian(10.0), 500),
    "truncated": (truncated, 300),
}


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("name", MANY)
def test_releases_cost_what_the_library_composes(name: str, delta: float) -> None:
    """Removed and added alike."""
    find, times = MANY[name]
    one = find()
    losses, composed = losses_of(one), one.self_compose(times)
    expected = composed.get_epsilon_for_delta(delta)
    assert epsilon_of([(losses, times)], delta) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    for own, pmf in zip(losses, (composed._pmf_remove, composed._pmf_add), strict=True):
        alone = epsilon_of([(Losses(own, own), times)], delta)
        assert alone == pytest.approx(pmf.get_epsilon_for_delta(delta), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("delta", DELTAS)
def test_different_releases_cost_what_the_library_composes(delta: float) -> None:
    first, second, third = gaussian(1.0, 0.01), gaussian(2.0, 0.05), gaussian(4.0)
    expected = first.self_compose(300).compose(second.self_compose(200)).compose(third).get_epsilon_for_delta(delta)
    parts = [(losses_of(first), 300), (losses_of(second), 200), (losses_of(third), 1)]
    assert epsilon_of(parts, delta) == pytest.approx(expected, rel=1e-6)
    assert epsilon_of(parts[::-1], delta) == pytest.approx(expected, rel=1e-6)


def in_long_double(one: LossDistribution, times: int, delta: float) -> float:
    """The same ε with eleven bits more, and nothing left out: every place that a sum can have."""
    length = times * (len(one.probs) - 1) + 1
    spectrum, probs = fft.rfft(one.probs.astype(np.longdouble), length), np.ones(1, np.longdouble)
    whole = np.ones_like(spectrum)
    for digit in f"{times:b}":
        whole = whole * whole * (spectrum if digit == "1" else 1)
    probs = fft.irfft(whole, length)
    losses = one.interval * (times * one.first + np.arange(length))
    infinite = -math.expm1(times * math.log1p(-one.infinite))

    def divergence(epsilon: float) -> float:
        beyond = losses > epsilon
        return infinite + float(probs[beyond] @ -np.expm1(epsilon - losses[beyond]))

    low, high = 0.0, float(losses[-1])
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if divergence(middle) > delta else (low, middle)
    return low


@pytest.mark.parametrize("delta", [1e-5, 1e-9])
@pytest.mark.parametrize(
    ("noise", "rate", "interval", "times"),
    [
        (1.0, 0.01, 4e-3, 40),
        (3.0, 0.2, 4e-3, 200),
        (2.0, 1.0, 4e-3, 30),
        (0.6, 0.02, 4e-3, 20),
        (20.0, 1.0, 0.05, 50_000),
    ],
    ids=["rarely", "often", "no sampling", "weak noise", "very many"],
)
def test_rounding_and_what_is_left_out_never_make_it_less(
    noise: float, rate: float, interval: float, times: int, delta: float
) -> None:
    """The library's own may be less by as much as its transform is wrong."""
    losses = losses_of(gaussian(noise, rate, interval))
    exact = max(in_long_double(direction, times, delta) for direction in set(losses))
    found = epsilon_of([(losses, times)], delta)
    assert exact <= found + 1e-11
    assert found == pytest.approx(exact, rel=1e-3)


def test_an_infinite_loss_that_is_likelier_than_delta_is_no_privacy() -> None:
    surely = LossDistribution(0, np.array([0.999]), 1e-3, 0.1)
    assert surely.epsilon(1e-4) == math.inf
    assert surely.epsilon(2e-3) == 0.0


def test_an_epsilon_between_two_losses_is_where_the_divergence_is_delta() -> None:
    """Losses 1 and 3, with probabilities 3/4 and 1/4: delta = (1 - e^(ε-3))/4 from 1 to 3, and a term more below."""
    both = LossDistribution(1, np.array([0.75, 0.0, 0.25]), 0.0, 1.0)
    for expected in (0.3, 1.0, 1.7, 2.9):
        delta = 0.25 * (1 - math.exp(expected - 3)) + 0.75 * max(0.0, 1 - math.exp(expected - 1))
        assert both.epsilon(delta) == pytest.approx(expected)
    assert both.epsilon(0.0) == pytest.approx(3.0)
    assert both.epsilon(0.99) == 0.0


def test_the_dearer_direction_counts() -> None:
    cheap, dear = (LossDistribution(0, np.array([0.5, 0.5]), 0.0, interval) for interval in (0.1, 0.1))
    dear.first = 3
    for both in (Losses(cheap, dear), Losses(dear, cheap)):
        assert epsilon_of([(both, 2)], 1e-6) == pytest.approx(epsilon_of([(Losses(dear, dear), 2)], 1e-6))


def test_what_is_missing_counts_as_no_privacy() -> None:
    """Of a distribution a thousandth of which is not there, ten lack a hundredth."""
    lacking = LossDistribution(0, np.array([0.999]), 0.0, 0.1)
    assert epsilon_of([(Losses(lacking, lacking), 10)], 0.009) == math.inf
    assert epsilon_of([(Losses(lacking, lacking), 10)], 0.011) == 0.0


def test_so_many_that_delta_is_lost_in_rounding_have_no_epsilon_but_by_divergences() -> None:
    losses = losses_of(gaussian(30.0, 0.001, 1e-5))
    assert epsilon_of([(losses, 10**7)], 1e-10) == math.inf
    assert epsilon_of([(losses, 10**4)], 1e-10) < 1
    many = [SelfComposed(Gaussian(noise_multiplier=30.0, sampling_rate=0.001), 10**7)]
    assert tight(many, 1e-10) == epsilon(many, 1e-10).rdp < 2


def test_a_sum_of_too_many_places_is_not_begun() -> None:
    wide = LossDistribution(0, np.eye(1, 2**16, 2**16 - 1)[0] / 2 + np.eye(1, 2**16)[0] / 2, 0.0, 1e-6)
    assert epsilon_of([(Losses(wide, wide), 10**4)], 1e-5) is None


@pytest.mark.parametrize(("noise", "rate", "times", "delta"), [(30.0, 1e-9, 10**5, 1e-10), (10.0, 1e-10, 2000, 1e-12)])
def test_what_is_no_distribution_is_counted_coarsely_enough_to_be_one(
    noise: float, rate: float, times: int, delta: float
) -> None:
    """The library's probabilities of such a release add up to more than 1: so many of them to more than any number."""
    run = [SelfComposed(Gaussian(noise_multiplier=noise, sampling_rate=rate), times)]
    assert 0 < epsilon(run, delta).pld < 1e-6


@pytest.mark.parametrize("rate", [1e-6, 1e-8])
def test_the_rarest_sampling_takes_little_memory(rate: float) -> None:
    found = tight([SelfComposed(Gaussian(noise_multiplier=1.0, sampling_rate=rate), 10**6)], 1e-5)
    assert 0 < found < 0.01


@pytest.mark.parametrize(("noise", "times"), [(1e3, 10**5), (1e4, 10**8), (3e4, 2**30), (10.0, 999)])
@pytest.mark.parametrize("delta", [1e-5, 1e-12])
def test_without_sampling_any_number_of_releases_is_counted_as_one(noise: float, times: int, delta: float) -> None:
    """Against the exact curve (Balle and Wang 2018, theorem 8)."""
    root = math.sqrt(times) / noise

    def curve(epsilon: float) -> float:
        return float(
            stats.norm.cdf(root / 2 - epsilon / root) - np.exp(epsilon + stats.norm.logcdf(-root / 2 - epsilon / root))
        )

    exact = optimize.brentq(lambda epsilon: curve(epsilon) - delta, 0, 100)
    run = [SelfComposed(Gaussian(noise_multiplier=noise), times)]
    assert epsilon(run, delta).pld == pytest.approx(exact, rel=1e-4)
    assert exact * (1 - 1e-9) <= tight(run, delta, COARSE) <= exact * 1.001
