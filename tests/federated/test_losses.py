"""Privacy losses composed, against ``dp_accounting``'s own composition and against one in long double."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as known
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from scipy import fft

from federated.privacy.losses import LossDistribution, epsilon_of, losses_of

DELTAS = (1e-3, 1e-5, 1e-7)


def gaussian(noise: float, rate: float = 1.0, interval: float = 1e-4) -> PrivacyLossDistribution:
    return known.from_gaussian_mechanism(noise, sampling_prob=rate, value_discretization_interval=interval)


MANY = [
    (gaussian(1.0, 0.01), 1),
    (gaussian(1.0, 0.01), 1000),
    (gaussian(1.0, 0.1, 8e-4), 61),
    (gaussian(0.7, 0.001, 5e-5), 3000),
    (gaussian(0.6, 0.02), 300),
    (gaussian(10.0), 500),
    (known.from_truncated_subsampled_gaussian_mechanism(1000, 0.05, 80, 1.0, value_discretization_interval=5e-4), 300),
]
NAMES = ["one", "a thousand", "coarsely", "seldom", "weak noise", "no sampling", "truncated"]


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize(("one", "times"), MANY, ids=NAMES)
def test_releases_cost_what_the_library_composes(one: PrivacyLossDistribution, times: int, delta: float) -> None:
    expected = one.self_compose(times).get_epsilon_for_delta(delta)
    assert epsilon_of([(losses_of(one), times)], delta) == pytest.approx(expected, rel=1e-6, abs=1e-9)


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
    ("one", "times"),
    [
        (gaussian(1.0, 0.01, 4e-3), 40),
        (gaussian(3.0, 0.2, 4e-3), 200),
        (gaussian(2.0, 1.0, 4e-3), 30),
        (gaussian(0.6, 0.02, 4e-3), 20),
        (gaussian(20.0, 1.0, 0.05), 50_000),
    ],
    ids=["rarely", "often", "no sampling", "weak noise", "very many"],
)
def test_rounding_and_what_is_left_out_never_make_it_less(
    one: PrivacyLossDistribution, times: int, delta: float
) -> None:
    """The library's own may be less by as much as its transform is wrong."""
    losses = losses_of(one)
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
    for epsilon in (0.3, 1.0, 1.7, 2.9):
        delta = 0.25 * (1 - math.exp(epsilon - 3)) + 0.75 * max(0.0, 1 - math.exp(epsilon - 1))
        assert both.epsilon(delta) == pytest.approx(epsilon)
    assert both.epsilon(0.0) == pytest.approx(3.0)
    assert both.epsilon(0.99) == 0.0


def test_so_many_that_delta_is_lost_in_rounding_are_not_counted() -> None:
    losses = losses_of(gaussian(30.0, 0.001, 1e-5))
    assert epsilon_of([(losses, 10**7)], 1e-10) is None
    assert epsilon_of([(losses, 10**4)], 1e-10) is not None
