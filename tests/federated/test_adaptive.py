"""The clip norm goes to the quantile that is asked for, at the price that is told."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from federated.algorithm import Algorithm
from federated.loop import one_round
from federated.privacy.releases import Gaussian
from federated.randomness import generator
from federated.rounds import broadcast, client_half, initial_state, server_half
from federated.rules import FixedMean
from federated.selectors import All, Poisson
from federated.transforms import AdaptiveGaussian, CentralGaussian
from federated.transforms.adaptive import Adapted
from federated.updates import Update, l2_norm
from tests.fakes import FakeEngine, line_federation, plain_sgd, update

SHARE = 0.01
"""Of a hundred clients."""


def sent(noise: AdaptiveGaussian, state: Adapted, norms: np.ndarray) -> list[Update]:
    """What clients send whose updates have these norms."""
    told = noise.now(state)
    return [
        told.encode(update(f"c{place}", [norm, 0.0]), (2,), np.random.default_rng(0))
        for place, norm in enumerate(norms)
    ]


def finished(noise: AdaptiveGaussian, state: Adapted, updates: list[Update], round: int = 1):
    aggregate = sum((one.delta for one in updates), np.zeros(2, np.float32)) * np.float32(SHARE)
    return noise.finish(state, aggregate, updates, generator(0, round, "finish-0"), SHARE)


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("first", [0.1, 30.0])
def test_the_norm_goes_to_the_quantile_of_the_updates_and_stays_there(quantile: float, first: float) -> None:
    """From far below and far above: with the share of *clipped* updates in its place it would run away."""
    rng = np.random.default_rng(1)
    noise = AdaptiveGaussian(norm=first, noise_multiplier=1.0, quantile=quantile, step=0.5, seeded=True)
    state, visited = noise.init(2), list[float]()
    for number in range(1, 201):
        updates = sent(noise, state, rng.lognormal(0, 0.5, size=100))
        state = finished(noise, state, updates, number).state
        visited.append(state.norm)
    expected = np.quantile(rng.lognormal(0, 0.5, size=100_000), quantile)
    assert np.mean(visited[100:]) == pytest.approx(expected, rel=0.1)
    assert max(visited[100:]) / min(visited[100:]) < 3


def test_a_step_without_noise_is_the_papers_formula() -> None:
    noise = AdaptiveGaussian(norm=1.0, noise_multiplier=1e-9, quantile=0.5, step=0.2, seeded=True)
    updates = sent(noise, noise.init(2), np.array([0.5] * 30 + [2.0] * 70))
    told = [one.extras["within"].item() for one in updates]
    assert (told.count(0.5), told.count(-0.5)) == (30, 70)
    steps = [finished(noise, noise.init(2), updates, number).state.norm for number in range(400)]
    assert np.median(np.log(steps)) == pytest.approx(-0.2 * (0.3 - 0.5), abs=0.002)


def test_updates_and_count_together_cost_what_one_gaussian_does() -> None:
    """1/z² = 1/z_Δ² + 1/(m/10)²: for a hundred clients and z = 1 noise on the updates is 1.00504 times the norm."""
    noise = AdaptiveGaussian(norm=3.0, noise_multiplier=1.0)
    assert noise.deviation(SHARE) / (3.0 * SHARE) == pytest.approx(1.00504, abs=1e-5)
    assert noise.release(0.2) == Gaussian(noise_multiplier=1.0, sampling_rate=0.2)
    quiet = [update("a", [0.0, 0.0])]
    steps = [
        finished(
            AdaptiveGaussian(norm=1.0, noise_multiplier=1.0, seeded=True), Adapted(1.0, None), _told(quiet), number
        )
        for number in range(2000)
    ]
    within = np.array([step.metrics["within"] for step in steps])
    assert np.std(within) == pytest.approx(0.05, rel=0.08), "a twentieth of the cohort"


def _told(updates: list[Update]) -> list[Update]:
    return [
        AdaptiveGaussian(norm=1.0, noise_multiplier=1.0).encode(one, (2,), np.random.default_rng(0)) for one in updates
    ]


def test_a_client_that_boasts_counts_as_one() -> None:
    noise = AdaptiveGaussian(norm=1.0, noise_multiplier=1e-9, seeded=True)
    honest, boasting = (sent(noise, noise.init(2), np.array([0.5])) for _ in range(2))
    boasting[0].extras["within"][0] = 1e6
    one, other = (finished(noise, noise.init(2), updates).state.norm for updates in (honest, boasting))
    assert one == other


@pytest.mark.parametrize(("noise", "least"), [(1.0, 25), (0.5, 13), (4.0, 97)])
def test_a_cohort_that_is_too_small_is_refused_with_the_number_that_would_do(noise: float, least: int) -> None:
    """24 clients a unit of noise: then noise on the updates is a tenth stronger for the count's sake."""

    def plan(expected: float) -> Algorithm:
        layer = AdaptiveGaussian(norm=1.0, noise_multiplier=noise)
        return Algorithm(select=Poisson(rate=0.5), rule=FixedMean(expected=expected), transforms=(layer,))

    for expected in (least - 1.0, 10.0):
        with pytest.raises(ValidationError, match=rf"with {expected:g} clients expected .* at least {least} of them"):
            plan(expected)
    assert plan(least).transforms[0].deviation(1 / least) * least <= 1.1 * noise


def test_a_rule_that_weighs_clients_is_refused_because_it_is_clients_that_are_counted() -> None:
    """With clients that weigh 0.3, 60 expected are 200 that come: the share would be of another number."""

    def plan(**rule: float) -> Algorithm:
        layer = AdaptiveGaussian(norm=1.0, noise_multiplier=1.0)
        return Algorithm(select=Poisson(rate=0.5), rule=FixedMean(expected=60.0, **rule), transforms=(layer,))

    with pytest.raises(ValidationError, match=r"fixed_mean with cap weighs clients, but adaptive_gaussian counts them"):
        plan(cap=10)
    assert plan().rule.equal


def test_a_cohort_of_one_or_of_none_has_the_same_noise_and_moves_the_norm_by_it() -> None:
    """Nobody within and nobody outside is a half, as far as the count's noise lets see."""
    noise = AdaptiveGaussian(norm=1.0, noise_multiplier=1.0, quantile=0.5, step=0.2, seeded=True)
    within, outside = sent(noise, noise.init(2), np.array([0.5, 2.0]))
    nobody, one, other = (
        noise.finish(noise.init(2), np.zeros(2, np.float32), cohort, generator(0, 1, "finish-0"), SHARE)
        for cohort in ([], [within], [outside])
    )
    for found in (nobody, one, other):
        np.testing.assert_array_equal(found.result, nobody.result)
        assert found.metrics["noise_deviation"] == nobody.metrics["noise_deviation"] > 0
        assert found.state.norm == pytest.approx(np.exp(-0.2 * (found.metrics["within"] - 0.5)))
    assert abs(nobody.metrics["within"] - 0.5) < 0.05 * 5, "five deviations of the count's noise"
    assert one.metrics["within"] - nobody.metrics["within"] == pytest.approx(0.5 * SHARE, abs=1e-6)
    assert other.metrics["within"] - nobody.metrics["within"] == pytest.approx(-0.5 * SHARE, abs=1e-6)


def test_an_empty_round_is_a_round_and_its_noise_is_in_the_model() -> None:
    layer = AdaptiveGaussian(norm=1.0, noise_multiplier=0.2)
    chain = Algorithm(local=plain_sgd(), select=Poisson(rate=0.5), rule=FixedMean(expected=30.0), transforms=(layer,))
    before = initial_state(chain, FakeEngine(), 60)
    after, metrics = server_half(chain, before, [])
    assert after.round == 1
    assert (after.params != before.params).all()
    assert after.transforms[0].norm != layer.norm
    assert metrics["noise_deviation"] > 0


def test_clients_clip_by_the_norm_of_the_round() -> None:
    engine, federation = FakeEngine(), line_federation(clients=30)
    layer = AdaptiveGaussian(norm=0.01, noise_multiplier=0.2, seeded=True)
    chain = Algorithm(local=plain_sgd(), select=All(), rule=FixedMean(expected=30.0), transforms=(layer,))
    state, norms = initial_state(chain, engine, 30), list[float]()
    for _ in range(5):
        down = broadcast(chain, state)
        clipped = [client_half(chain, engine, down, one).update for one in federation.clients.values()]
        limit = state.transforms[0].norm
        assert max(l2_norm(one.delta) for one in clipped) == pytest.approx(limit, rel=1e-5)
        norms.append(limit)
        state = one_round(chain, engine, state, federation.clients, {}, quorum=0).state
    assert norms == sorted(norms)
    assert norms[-1] > norms[0] * 1.2


def test_a_round_that_is_done_again_releases_the_same_and_tells_its_noise() -> None:
    noise, size = AdaptiveGaussian(norm=2.0, noise_multiplier=1.0), 40_000
    before = noise.init(size)
    aggregate = np.linspace(-1, 1, size, dtype=np.float32)
    updates = _told([update("a", [0.0, 0.0])])
    after = noise.finish(before, aggregate, updates, np.random.default_rng(0), SHARE)
    again = noise.again(after.state).finish(before, aggregate, updates, np.random.default_rng(0), SHARE)
    np.testing.assert_array_equal(again.result, after.result)
    assert again.state.norm == after.state.norm
    assert again.metrics["noise_multiplier_found"] == pytest.approx(1.0, rel=0.025)
    seeded = AdaptiveGaussian(norm=2.0, noise_multiplier=1.0, seeded=True)
    assert seeded.again(seeded.init(3)) is seeded


def test_it_is_no_cheaper_than_a_fixed_norm() -> None:
    fixed, adaptive = (kind(norm=1.0, noise_multiplier=1.0) for kind in (CentralGaussian, AdaptiveGaussian))
    assert adaptive.deviation(SHARE) > fixed.deviation(SHARE)
    assert adaptive.release(0.1) == fixed.release(0.1)
