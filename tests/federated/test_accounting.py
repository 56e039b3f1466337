"""What releases cost: published values, laws of composition, and the questions asked before a training."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import norm

from federated.errors import InputError
from federated.privacy.accounting import COARSE, SelfComposed, affordable, calibrated, epsilon, merged, tight, within
from federated.privacy.calculator import answer
from federated.privacy.losses import LossDistribution
from federated.privacy.releases import Gaussian, TruncatedGaussian

DELTA = 1e-5
SLOW = pytest.mark.slow


def sampled(rate: float, noise: float = 1.0) -> Gaussian:
    return Gaussian(noise_multiplier=noise, sampling_rate=rate)


@pytest.mark.parametrize(
    ("release", "times", "rdp", "pld"),
    [
        (sampled(0.01), 1000, 2.1014, 1.8282),
        (sampled(0.01), 10_000, 6.7128, 6.1877),
        (sampled(1.0), 1, 4.7285, 4.3772),
        (sampled(0.1), 50, 5.8854, 5.1483),
    ],
    ids=str,
)
def test_epsilon_is_the_published_one(release: Gaussian, times: int, rdp: float, pld: float) -> None:
    found = epsilon([SelfComposed(release, times)], DELTA)
    assert found.rdp == pytest.approx(rdp, abs=1e-4)
    assert found.pld == pytest.approx(pld, abs=1e-4)
    assert found.best == found.pld


@pytest.mark.parametrize("noise", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("times", [1, 9])
def test_gaussian_noise_costs_what_its_formula_says(noise: float, times: int) -> None:
    """Balle and Wang 2018, theorem 8: δ(ε) of one release with a √times-th of the noise."""
    shift = math.sqrt(times) / noise
    found = epsilon([SelfComposed(sampled(1.0, noise), times)], DELTA).best
    delta = norm.cdf(shift / 2 - found / shift) - math.exp(found) * norm.cdf(-shift / 2 - found / shift)
    assert delta == pytest.approx(DELTA, rel=1e-2)


@pytest.mark.parametrize(
    ("most", "expected"), [pytest.param(70, 4.695, marks=SLOW), (80, 2.663), pytest.param(100, 2.584, marks=SLOW)]
)
def test_batches_that_are_cut_off_cost_more(most: int, expected: float) -> None:
    release = TruncatedGaussian(noise_multiplier=1, sampling_rate=0.01, units=5000, most=most)
    found = epsilon([SelfComposed(release, 2000)], DELTA)
    assert (found.best, found.rdp) == (pytest.approx(expected, abs=1e-3), None)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert epsilon([], DELTA).best == 0
    assert epsilon([SelfComposed(sampled(0.1), 0)], DELTA).best == 0
    for rate in (0.1, 1.0):
        assert epsilon([SelfComposed(sampled(rate, 0.0), 1)], DELTA).best == math.inf


def test_composition_knows_no_order_and_more_is_never_cheaper() -> None:
    one, other = SelfComposed(sampled(0.05), 20), SelfComposed(sampled(0.02, 2.0), 30)
    together = epsilon([one, other], DELTA).best
    assert epsilon([other, one], DELTA).best == pytest.approx(together, abs=1e-6)
    assert epsilon([SelfComposed(one.release, 5), other, SelfComposed(one.release, 15)], DELTA).best == together
    assert max(epsilon([run], DELTA).best for run in (one, other)) < together
    assert sorted(merged([one, other, one]), key=str) == sorted([SelfComposed(one.release, 40), other], key=str)


def test_the_longest_training_within_a_budget() -> None:
    assert affordable(sampled(0.01), 2.0, DELTA) == 1202
    assert affordable(sampled(1.0, 0.0), 2.0, DELTA) == 0
    assert affordable(sampled(1.0, 1.0), 4.37, DELTA) == 0
    assert affordable(sampled(1.0, 1.0), 4.38, DELTA) == 1


@SLOW
def test_what_is_spent_leaves_less() -> None:
    release, before = sampled(0.05), [SelfComposed(sampled(0.1, 2.0), 10)]
    count = affordable(release, 1.5, DELTA, before)
    assert 0 < count < affordable(release, 1.5, DELTA)
    within, beyond = (epsilon([*before, SelfComposed(release, times)], DELTA).best for times in (count, count + 1))
    assert within <= 1.5 < beyond


def test_the_least_noise_for_a_budget() -> None:
    noise = calibrated(lambda noise: sampled(0.01, noise), 1000, 1.0, DELTA)
    assert noise == pytest.approx(1.4146, abs=1.1e-4)
    assert epsilon([SelfComposed(sampled(0.01, noise), 1000)], DELTA).best <= 1.0
    assert epsilon([SelfComposed(sampled(0.01, noise - 1e-4), 1000)], DELTA).best > 1.0
    assert calibrated(lambda noise: sampled(1.0, noise), 1, 1.0, DELTA) == pytest.approx(3.7306, abs=1.1e-4)


def test_a_target_that_no_noise_meets_is_refused_with_what_its_epsilon_is_of() -> None:
    assert calibrated(lambda _: sampled(1.0, 0.0), 10, 1.0, DELTA) is None
    said = r"epsilon 1e-07 after 1,000,000,000 rounds \(one unit, added or removed; delta 1e-05; no sampling\)"
    with pytest.raises(InputError, match=said):
        answer(1.0, DELTA, rounds=10**9, target_epsilon=1e-7)


@pytest.mark.parametrize(
    "wrong", [{"noise_multiplier": -1}, {"noise_multiplier": 1, "sampling_rate": 0}, {"noise_multiplier": np.inf}]
)
def test_what_is_no_release_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Gaussian(**wrong)


def test_a_release_covers_what_costs_no_more() -> None:
    assert sampled(0.1).covers(sampled(0.1))
    assert sampled(0.1).covers(sampled(0.05, 2.0))
    assert not sampled(0.1).covers(sampled(0.2, 2.0))
    assert not sampled(0.1).covers(sampled(0.1, 0.9))
    cut = TruncatedGaussian(noise_multiplier=1, sampling_rate=0.01, units=500, most=80)
    assert cut.covers(cut.model_copy(update={"noise_multiplier": 2.0}))
    assert not cut.covers(cut.model_copy(update={"most": 70}))
    assert not cut.covers(sampled(0.01))
    assert not sampled(0.01).covers(cut)
    with pytest.raises(ValidationError, match="most must not exceed units, got 80 of 70"):
        TruncatedGaussian(noise_multiplier=1, sampling_rate=0.01, units=70, most=80)


@pytest.mark.parametrize(
    ("noise", "rate", "times"),
    [(1, 0.01, 1000), (1, 0.01, 10_000), (2, 0.05, 500), (5, 0.01, 100_000), (50, 0.01, 2000), (20, 0.5, 300)],
)
def test_coarsely_is_counted_up_by_less_than_a_thousandth_of_it_and_never_down(
    noise: float, rate: float, times: int
) -> None:
    runs = [SelfComposed(sampled(rate, noise), times)]
    fine, coarse = tight(runs, DELTA), tight(runs, DELTA, COARSE)
    assert fine <= coarse < 1.001 * fine


@pytest.mark.parametrize(
    ("release", "times"),
    [
        (sampled(1e-4, 10.0), 10**6),
        (sampled(1e-4, 10.0), 10**8),
        (sampled(0.01, 5.0), 10**5),
        (sampled(0.01, 1.0), 10**7),
        (sampled(1e-3, 0.7), 3000),
        (sampled(1e-6, 30.0), 10**6),
    ],
    ids=str,
)
def test_small_losses_are_counted_finely_enough_not_to_exceed_the_cross_check(release: Gaussian, times: int) -> None:
    found = epsilon([SelfComposed(release, times)], DELTA)
    assert found.pld < found.rdp


def test_many_small_losses_are_counted_as_finely_beside_a_large_one() -> None:
    many, one = SelfComposed(sampled(1e-4, 10.0), 10**6), SelfComposed(sampled(1.0, 100.0), 1)
    together = epsilon([many, one], DELTA)
    assert max(epsilon([run], DELTA).best for run in (many, one)) < together.pld < together.rdp


@pytest.mark.parametrize("noise", [1.01, 30.01])  # of which nothing is remembered
def test_the_work_does_not_grow_with_the_rounds(noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one round to a hundred million: places that are transformed, and moments that are looked for."""
    work, transform, moment = Counter[str](), np.fft.rfft, LossDistribution.log_moment

    def transformed(probs: np.ndarray, length: int) -> np.ndarray:
        work["places"] += length
        return transform(probs, length)

    def looked(self: LossDistribution, order: float) -> float:
        work["moments"] += 1
        return moment(self, order)

    monkeypatch.setattr(np.fft, "rfft", transformed)
    monkeypatch.setattr(LossDistribution, "log_moment", looked)
    for rounds in (10**power for power in range(9)):
        work.clear()
        tight([SelfComposed(sampled(0.01, noise), rounds)], DELTA)
        assert 0 < work["places"] <= 2**20, rounds
        assert 0 < work["moments"] <= 64, rounds


@pytest.mark.parametrize(
    ("release", "times"),
    [
        (sampled(1.0, 1e-3), 10),
        (sampled(0.5, 1e-3), 10),
        (sampled(0.1, 0.05), 100),
        (sampled(0.25, 0.01), 100),
        (sampled(1.0, 1e-6), 5),
        (sampled(0.5, 1e-8), 1),
        (TruncatedGaussian(noise_multiplier=0.01, sampling_rate=0.01, units=5000, most=80), 10),
    ],
    ids=str,
)
def test_weak_noise_is_counted_in_little_time_and_memory(release: Gaussian | TruncatedGaussian, times: int) -> None:
    """Before, it asked for as many numbers as losses are long: up to 750 GiB of them."""
    runs = [SelfComposed(release, times)]
    tracemalloc.start()
    try:
        fine, coarse = tight(runs, DELTA), tight(runs, DELTA, COARSE)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 300e6
    assert 1000 < fine < math.inf
    assert coarse == pytest.approx(fine, rel=2e-3)
    found = epsilon(runs, DELTA)
    assert found.rdp is None or fine <= found.rdp


def test_next_to_no_noise_is_none() -> None:
    assert epsilon([SelfComposed(sampled(0.5, 1e-200), 1)], DELTA).best == math.inf


@pytest.mark.parametrize(("rate", "target"), [(1.0, 1e6), (0.1, 1e6)])
def test_noise_for_a_target_that_is_hardly_one(rate: float, target: float) -> None:
    noise = calibrated(lambda noise: sampled(rate, noise), 5, target, DELTA)
    assert tight([SelfComposed(sampled(rate, noise), 5)], DELTA) <= target
    assert tight([SelfComposed(sampled(rate, noise - 1e-4), 5)], DELTA) > target


def test_what_is_within_a_budget_is_decided_finely_near_to_it() -> None:
    for times, fits in ((1000, True), (1202, True), (1203, False)):
        assert within([SelfComposed(sampled(0.01), times)], DELTA, 2.0) == fits
    assert tight([SelfComposed(sampled(0.01), 1202)], DELTA, COARSE) > 2.0, "which coarsely it is not"
