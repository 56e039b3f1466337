"""Bounds on epsilon: as sharp as the references, seldom wrong, and caught is what hides less than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from federated.privacy.auditing import Scored, clopper_pearson, guessed, least_probability, noise_at_most, one_run

DELTA = 1e-5
bounds = pytest.mark.parametrize("bound", [clopper_pearson, one_run])


def gaussian_scores(noise: float, seed: int = 0, each: int = 2000) -> Scored:
    """Of the Gaussian mechanism itself, with as many canaries in as out."""
    included = np.arange(2 * each) < each
    return Scored(np.random.default_rng(seed).normal(included, noise), included)


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (1, 1), (3, 10), (10, 10), (117, 2000), (1999, 2000)])
@pytest.mark.parametrize("error", [0.05, 0.001])
def test_limits_of_a_probability_are_scipys(successes, trials, error) -> None:
    """A two-sided interval of confidence 1 - 2 · error ends where two one-sided ones do."""
    exact = stats.binomtest(successes, trials).proportion_ci(1 - 2 * error, method="exact")
    assert least_probability(successes, trials, error) == pytest.approx(exact.low, abs=1e-10)
    assert 1 - least_probability(trials - successes, trials, error) == pytest.approx(exact.high, abs=1e-10)


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "delta", "published"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_one_run_is_as_printed(canaries, guesses, right, delta, published) -> None:
    """Steinke, Nasr and Jagielski 2023: appendix D, and section 7. The second is cut off, not rounded."""
    assert guessed(canaries, guesses, right, delta, 0.05) == pytest.approx(published, abs=1e-3)


@pytest.mark.parametrize(("canaries", "guesses", "right"), [(10, 10, 9), (500, 64, 60), (4000, 256, 256)])
@pytest.mark.parametrize("delta", [0.0, 1e-6, 1e-4])
def test_one_run_rejects_what_scipys_binomials_say_is_unlikely(canaries, guesses, right, delta) -> None:
    """At the bound, the tail and its steepest rise make up the error."""
    found = guessed(canaries, guesses, right, delta, 0.05)
    likely = stats.binom(guesses, 1 / (1 + math.exp(-found)))
    rises = [(likely.cdf(right - 1) - likely.cdf(right - i - 1)) / i for i in range(1, right + 1)]
    assert likely.sf(right - 1) + 2 * canaries * delta * max(rises) == pytest.approx(0.05, rel=1e-6)


def test_without_delta_one_run_is_the_limit_of_randomised_response() -> None:
    """ε is the log odds of the least probability of a right guess."""
    chance = stats.beta.ppf(0.05, 90, 11)
    assert guessed(100, 100, 90, 0.0, 0.05) == pytest.approx(math.log(chance / (1 - chance)), abs=1e-9)


@pytest.mark.parametrize(
    ("noise", "epsilon", "by_rates", "by_guesses"),
    [(1.0, 4.377, 1.5, 1.2), (2.0, 1.993, 0.6, 0.6), (0.5, 9.997, 3.0, 2.4)],
)
def test_exact_gaussian_scores_give_what_a_reference_gives_or_more(noise, epsilon, by_rates, by_guesses) -> None:
    """The means of ten audits; the references are jax_privacy's bounds of one, with thresholds of its own."""
    found = [[bound(gaussian_scores(noise, seed), DELTA) for bound in (clopper_pearson, one_run)] for seed in range(10)]
    rates, guesses = np.mean(found, axis=0)
    assert by_rates - 0.15 < rates < epsilon
    assert by_guesses < guesses < epsilon
    assert np.max(found) < epsilon


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_the_noise_found_is_not_less_than_there_is_and_not_much_more(noise) -> None:
    """How far apart scores in and out are, 1 / z, is found to some 0.15."""
    found = [noise_at_most(gaussian_scores(noise, seed)) for seed in range(20)]
    assert noise <= min(found)
    assert np.mean(1 / np.array(found)) > 1 / noise - 0.2


def test_noise_found_is_seldom_too_little() -> None:
    """With a confidence of one half, in no more than half of all audits."""
    found = [noise_at_most(gaussian_scores(1.0, seed, each=200), 0.5) for seed in range(200)]
    assert sum(noise < 1.0 for noise in found) <= stats.binom.ppf(0.9999, 200, 0.5)
    assert min(found) < 1.0


def test_noise_found_is_what_scipy_makes_of_the_rates() -> None:
    """Canaries in and left out by turns, so that thresholds let half or all of those in through."""
    scored = Scored(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, True, False, False]))
    assert noise_at_most(scored, 0.5) == math.inf
    many = Scored(np.repeat(scored.scores, 50), np.repeat(scored.included, 50))
    error = 0.5 / 14
    rates = [(50 if rank <= 50 else 100, rank) for rank in (1, 2, 4, 8, 16, 32, 64)]
    apart = [
        stats.norm.ppf(stats.beta.ppf(error, hits, 101 - hits))
        - stats.norm.ppf(stats.beta.ppf(1 - error, rank, 101 - rank))
        for hits, rank in rates
    ]
    assert noise_at_most(many, 0.5) == pytest.approx(1 / max(apart), rel=1e-9)


@bounds
def test_a_bound_is_wrong_no_more_often_than_it_says(bound) -> None:
    """Randomised response tells exactly ε = 1 of each canary: nothing is harder not to overstate."""
    rng, wrong, runs = np.random.default_rng(1), 0, 150
    for _ in range(runs):
        included = rng.random(400) < 0.5
        told = included ^ (rng.random(400) > 1 / (1 + math.exp(-1.0)))
        wrong += bound(Scored(told.astype(float), included), 0.0, 0.8) > 1.0
    assert wrong <= stats.binom.ppf(0.9999, runs, 0.2)


def test_one_number_of_guesses_is_wrong_as_often_as_it_says() -> None:
    """Not only at most: nothing is given away where there is one number of guesses and no δ."""
    rng, chance, runs = np.random.default_rng(2), 1 / (1 + math.exp(-1.0)), 2000
    right = rng.binomial(1000, chance, runs)
    bounds = {count: guessed(1000, 1000, count, 0.0, 0.1) for count in set(right.tolist())}
    wrong = sum(bounds[count] > 1.0 for count in right.tolist())
    assert stats.binom.ppf(0.0001, runs, 0.08) <= wrong <= stats.binom.ppf(0.9999, runs, 0.1)


@bounds
def test_what_delta_allows_is_no_leak(bound) -> None:
    """A mechanism that gives one canary in ten away, and nothing else, is (0, 0.1)-private."""
    rng, counted, ignored, runs = np.random.default_rng(3), 0, 0, 40
    for _ in range(runs):
        included, given_away = rng.random(600) < 0.5, rng.random(600) < 0.1
        scored = Scored(np.where(given_away, np.where(included, 1.0, -1.0), 0.0), included)
        counted += bound(scored, 0.1) > 0
        ignored += bound(scored, 0.0) > 0
    assert counted <= stats.binom.ppf(0.9999, runs, 0.05)
    assert ignored > runs / 2


def test_only_one_run_stays_right_where_canaries_share_their_fate() -> None:
    """With probability δ all of them are told, else none: (0, δ)-private, but no score is independent of another."""
    rng, runs, delta = np.random.default_rng(4), 100, 0.3
    wrong = np.zeros(3)
    for _ in range(runs):
        included = rng.random(64) < 0.5
        scored = Scored(included.astype(float) if rng.random() < delta else rng.random(64), included)
        wrong += [one_run(scored, delta) > 0, one_run(scored, 0.0) > 0, clopper_pearson(scored, delta) > 0]
    assert wrong[0] <= stats.binom.ppf(0.9999, runs, 0.05)
    assert min(wrong[1:]) > 0.2 * runs


@bounds
def test_scores_that_tell_nothing_bound_nothing(bound) -> None:
    included = np.arange(1000) % 2 == 0
    assert bound(Scored(np.zeros(1000), included), DELTA) == 0
    assert bound(Scored(-included.astype(float), included), DELTA) == 0
    assert noise_at_most(Scored(np.zeros(1000), included)) == math.inf


@bounds
def test_more_canaries_told_apart_bound_more(bound) -> None:
    found = []
    for count in (20, 200, 2000):
        included = np.arange(count) % 2 == 0
        found.append(bound(Scored(included.astype(float), included), DELTA))
    assert 0 < found[0] < found[1] < found[2] < math.log(2000)


@bounds
@pytest.mark.parametrize(
    ("scores", "included", "delta", "confidence", "said"),
    [
        ([0.0, 1.0], [True], DELTA, 0.95, "a coin a score"),
        ([[0.0, 1.0]], [[True, False]], DELTA, 0.95, "a coin a score"),
        ([0.0, math.nan], [True, False], DELTA, 0.95, "finite scores"),
        ([0.0, math.inf], [True, False], DELTA, 0.95, "finite scores"),
        ([0.0, 1.0], [True, False], 1.0, 0.95, "delta"),
        ([0.0, 1.0], [True, False], -0.1, 0.95, "delta"),
        ([0.0, 1.0], [True, False], DELTA, 1.0, "error"),
        ([0.0, 1.0], [True, False], DELTA, 0.0, "error"),
    ],
)
def test_what_is_no_audit_is_refused(bound, scores, included, delta, confidence, said) -> None:
    with pytest.raises(ValueError, match=said):
        bound(Scored(np.array(scores), np.array(included)), delta, confidence)


def test_too_few_canaries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got 2 in and 0 out; draw more"):
        clopper_pearson(Scored(np.array([0.0, 1.0]), np.array([True, True])), DELTA)
    with pytest.raises(ValueError, match=r"got 0 in and 2 out; draw more"):
        noise_at_most(Scored(np.array([0.0, 1.0]), np.array([False, False])))
    with pytest.raises(ValueError, match="expected 2 canaries or more, got 1"):
        one_run(Scored(np.array([0.0]), np.array([True])), DELTA)


@pytest.mark.parametrize("numbers", [(10, 11, 5), (10, 5, 6), (10, 5, -1)])
def test_more_guesses_than_canaries_are_refused(numbers) -> None:
    with pytest.raises(ValueError, match="right <= guesses <= canaries"):
        guessed(*numbers, DELTA, 0.05)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_more_successes_than_trials_are_refused(successes, trials) -> None:
    with pytest.raises(ValueError, match="successes <= trials"):
        least_probability(successes, trials, 0.05)
