"""Lower bounds on epsilon, from what an attacker could tell of canaries: a claim below one of them is false.

A canary is something that a fair coin puts into a training or leaves out; its score is what the attacker goes by, and
is higher for those that were put in. Nothing here trusts the mechanism or its accountant.

====================  ==========================================  ==========================
bound                 holds if, given the coins,                  edge cases
====================  ==========================================  ==========================
``clopper_pearson``   scores are independent, and drawn alike     nothing told apart: 0
``noise_at_most``     the same                                    nothing told apart: ∞
``one_run``           nothing: one training is enough             nothing told apart: 0
====================  ==========================================  ==========================

Guarantees: of an (ε, δ)-private mechanism, a bound exceeds ε with a probability of at most 1 - ``confidence``.
A low bound proves nothing: a better attack may find more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_HALVINGS = 50

Floats = NDArray[np.float64]


class Scored(NamedTuple):
    """Scores of shape (canaries,), higher for what seems to be in, and what the coins said, of the same shape."""

    scores: Floats
    included: NDArray[np.bool_]


class _Rates(NamedTuple):
    """At one threshold: the least that true positives can be, and the most that false ones can be."""

    true: float
    false: float


def clopper_pearson(scored: Scored, delta: float, confidence: float = 0.95) -> float:
    """ε from the rates of true and of false positives: log((TPR - δ) / FPR), both at their worst.

    Positive is a score above the k-th highest of canaries that were left out, for k = 1, 2, 4, …. How often one that
    was left out exceeds that is at most Clopper and Pearson's upper limit for k - 1 of them, whatever the scores'
    distribution (Wilks 1941); those that were put in are counted, with their lower limit (Clopper and Pearson 1934).
    The error is shared out among all k and both limits (Bonferroni): no score is needed to choose a threshold.

    Raises:
        ValueError: scores and coins do not match, a score is not finite, all coins fell alike, or ``delta`` or
            ``confidence`` is no probability.
    """
    _check(scored, delta, confidence)
    return max(
        math.log((true - delta) / false) if true - delta > false else 0.0 for true, false in _rates(scored, confidence)
    )


def noise_at_most(scored: Scored, confidence: float = 0.95) -> float:
    """The largest noise multiplier that a Gaussian mechanism can have, for scores such as these; infinite for any.

    Sharper than a bound on ε: it uses that the claim is about Gaussian noise, of which an attacker's rates are known,
    Φ⁻¹(TPR) - Φ⁻¹(FPR) = 1 / z at best (Dong, Roth and Su 2022; Nasr et al. 2023). Rates are those of
    ``clopper_pearson``. A claimed noise multiplier that is larger is false: for T rounds with the same canaries, one
    that is larger than √T times it. It is wrong with a probability of at most 1 - ``confidence``.

    Raises:
        ValueError: as ``clopper_pearson``.
    """
    _check(scored, 0.0, confidence)
    quantile = NormalDist().inv_cdf
    apart = [quantile(true) - quantile(false) for true, false in _rates(scored, confidence) if true > 0 and false < 1]
    furthest = max(apart, default=0.0)
    return 1 / furthest if furthest > 0 else math.inf


def _rates(scored: Scored, confidence: float) -> Iterator[_Rates]:
    """At each threshold; all of them hold together."""
    inside = np.sort(scored.scores[scored.included])
    outside = np.sort(scored.scores[~scored.included])[::-1]
    if not (inside.size and outside.size):
        raise ValueError(f"expected canaries in and out, got {inside.size} in and {outside.size} out; draw more")
    ranks = _doubling(outside.size)
    error = (1 - confidence) / (2 * len(ranks))
    for rank in ranks:
        found = inside.size - int(np.searchsorted(inside, outside[rank - 1], side="right"))
        passed = outside.size - rank + 1
        yield _Rates(least_probability(found, inside.size, error), 1 - least_probability(passed, outside.size, error))


def one_run(scored: Scored, delta: float, confidence: float = 0.95) -> float:
    """ε from how many guesses are right: half of them name the highest scores as put in, half the lowest as left out.

    For 2, 4, 8, … guesses, which are bounded by ``guessed``; the error is shared out among them (Bonferroni). Canaries
    between are abstained from.

    Raises:
        ValueError: scores and coins do not match, a score is not finite, there are fewer than two, or ``delta`` or
            ``confidence`` is no probability.
    """
    _check(scored, delta, confidence)
    canaries = scored.scores.size
    if canaries < 2:
        raise ValueError(f"expected 2 canaries or more, got {canaries}")
    rising = scored.included[np.argsort(scored.scores, kind="stable")]
    sides = _doubling(canaries // 2)
    error = (1 - confidence) / len(sides)
    right = [int(np.sum(~rising[:side]) + np.sum(rising[-side:])) for side in sides]
    return max(guessed(canaries, 2 * side, hits, delta, error) for side, hits in zip(sides, right, strict=True))


def guessed(canaries: int, guesses: int, right: int, delta: float, error: float) -> float:
    """The largest ε at which so many right guesses are too unlikely; 0 where they are likely without any leak.

    ``guesses`` of the ``canaries`` are guessed and ``right`` of those are right; ``error`` is the probability with
    which the bound may be wrong. The number of guesses is not to depend on what is found. (Steinke, Nasr and Jagielski
    2023, corollary 5.4 and appendix D.)

    Raises:
        ValueError: the numbers are not in order, or a probability is none.
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"expected right <= guesses <= canaries, got {right}, {guesses} and {canaries}")
    _check_probabilities(delta, error)

    def unlikely(epsilon: float) -> bool:
        return _likelihood(canaries, guesses, right, epsilon, delta) < error

    high = 1.0
    while unlikely(high):
        high *= 2
    return _last(unlikely, high)


def _likelihood(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """At most the probability of as many right guesses, or more, under (ε, δ)-differential privacy.

    Without δ, guesses are as good as coins that fall right with probability e^ε / (1 + e^ε). What δ adds is twice δ
    for *every* canary, those abstained from too, times the steepest rise of the tail below ``right``.
    """
    correct = -math.log1p(math.exp(-epsilon))
    chances = _binomial(guesses, correct, correct - epsilon)
    below = np.cumsum(chances[:right][::-1])
    steepest = float(np.max(below / np.arange(1, right + 1), initial=0.0))
    return float(np.sum(chances[right:])) + 2 * canaries * delta * steepest


@lru_cache(maxsize=4096)
def least_probability(successes: int, trials: int, error: float) -> float:
    """The lower limit of a probability: the least at which so many successes, or more, are not too unlikely.

    It is too high with a probability of at most ``error`` (Clopper and Pearson 1934, one-sided). The upper limit is 1
    less the lower limit of failures.

    Raises:
        ValueError: the numbers are not in order, or ``error`` is no probability.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"expected 0 <= successes <= trials and 1 trial or more, got {successes} of {trials}")
    _check_probabilities(0.0, error)
    if successes == 0:
        return 0.0

    def unlikely(chance: float) -> bool:
        if not 0 < chance < 1:
            return chance <= 0
        return float(np.sum(_binomial(trials, math.log(chance), math.log1p(-chance))[successes:])) < error

    return _last(unlikely, 1.0)


def _binomial(trials: int, log_success: float, log_failure: float) -> Floats:
    """Probabilities of 0, 1, …, ``trials`` successes."""
    successes = np.arange(trials + 1)
    logs: Floats = _log_choices(trials) + successes * log_success + (trials - successes) * log_failure
    return np.exp(logs)


@lru_cache(maxsize=64)
def _log_choices(trials: int) -> Floats:
    """The logarithm of how many ways there are to choose 0, 1, …, ``trials`` of them."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    choices: Floats = factorials[-1] - factorials - factorials[::-1]
    return choices


def _last(holds: Callable[[float], bool], high: float) -> float:
    """The largest number of [0, ``high``] for which it holds, rounded down; 0 where for none."""
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _doubling(most: int) -> list[int]:
    """1, 2, 4, … up to ``most``."""
    return [2**power for power in range(most.bit_length())]


def _check(scored: Scored, delta: float, confidence: float) -> None:
    if scored.scores.ndim != 1 or scored.scores.shape != scored.included.shape:
        raise ValueError(f"expected a coin a score, got shapes {scored.scores.shape} and {scored.included.shape}")
    if not np.isfinite(scored.scores).all():
        raise ValueError("expected finite scores, got NaN or infinity")
    _check_probabilities(delta, 1 - confidence)


def _check_probabilities(delta: float, error: float) -> None:
    if not 0 <= delta < 1 or not 0 < error < 1:
        raise ValueError(f"expected 0 <= delta < 1 and an error between 0 and 1, got {delta} and {error}")
