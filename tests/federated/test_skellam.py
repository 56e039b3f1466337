"""Noise that clients add in parts: whole numbers, whose sum is as noised as is said, and not a step less."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.rdp import compute_epsilon
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from federated.algorithm import Algorithm
from federated.errors import TrainingError
from federated.loop import one_round
from federated.onion import Trained, decode, encode
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import AnyRelease, Gaussian, Release, Skellam
from federated.rounds import initial_state, server_half
from federated.rules import FixedMean, Mean
from federated.selectors import BySize, Uniform
from federated.transforms import AnyTransform, DistributedSkellam, Quantise
from federated.transforms.distributed_noise import in_steps
from tests.fakes import FakeEngine, line_federation, update

DELTA = 1e-5
SIZE = 20_000
SEEDED = DistributedSkellam(norm=0.5, noise_multiplier=2.0, least=4, seeded=True)
SECRET = DistributedSkellam(norm=0.5, noise_multiplier=2.0, least=4)
each = pytest.mark.parametrize("noise", [SEEDED, SECRET], ids=["seeded", "secret"])


def algorithm(**changes) -> Algorithm:
    return Algorithm(
        **{"rule": FixedMean(expected=4.0), "transforms": (SECRET,), "select": Uniform(cohort=4)} | changes
    )


def sent(noise: DistributedSkellam, delta, seed: int = 0):
    return noise.encode(update(f"c{seed}", delta), (len(delta),), np.random.default_rng(seed))


def steps_of(message) -> np.ndarray:
    return message.extras["steps"]


# What it costs


@pytest.mark.parametrize(("scale", "expected"), [(2**8, 13.85), (2**10, 6.13), (2**12, 5.425), (2**16, 5.3780)])
def test_epsilon_is_the_published_one_where_rounding_by_chance_makes_a_million_weights_longer(scale, expected) -> None:
    """Noise 4, 20 rounds; conditional rounding with β = e^(-1/2) (Kairouz, Liu, Steinke 2021, theorem 1)."""
    longer = math.sqrt(scale**2 + 1e6 / 4 + scale + 1e3 / 2)
    release = Skellam(noise_multiplier=4 * scale / longer, units=round(longer))
    found = epsilon([SelfComposed(release, 20)], DELTA)
    assert found.rdp == pytest.approx(expected, rel=5e-4)
    assert found.pld is None
    assert found.best == found.rdp


def test_rounding_towards_zero_costs_what_gaussian_noise_costs() -> None:
    gaussian = epsilon([SelfComposed(Gaussian(noise_multiplier=4.0), 20)], DELTA).rdp
    assert gaussian == pytest.approx(5.3777, abs=1e-4)
    found = epsilon([SelfComposed(Skellam(noise_multiplier=4.0, units=2**16), 20)], DELTA).best
    assert gaussian <= found == pytest.approx(5.3777, abs=1e-4)


@pytest.mark.parametrize(("noise", "units", "times"), [(1.0, 256, 1), (0.5, 1024, 3), (4.0, 2**16, 100)])
def test_epsilon_is_that_of_the_papers_bound_at_whole_orders(noise, units, times) -> None:
    orders = np.arange(2, 513)
    variance = (noise * units) ** 2
    first = ((2 * orders - 1) * units**2 + 6 * units**2) / (4 * variance**2)
    bound = orders * units**2 / (2 * variance) + np.minimum(first, 3 * units**2 / (2 * variance))
    expected, _ = compute_epsilon(orders, times * bound, DELTA)
    found = epsilon([SelfComposed(Skellam(noise_multiplier=noise, units=units), times)], DELTA).best
    assert found == pytest.approx(expected, rel=1e-3)
    assert found >= expected * (1 - 1e-12)


@pytest.mark.parametrize("units", [1, 3, 16, 64])
@pytest.mark.parametrize("noise", [0.8, 2.0])
@pytest.mark.parametrize("spread", [False, True])
def test_no_divergence_of_the_distribution_itself_is_above_the_bound(noise, units, spread) -> None:
    """One coordinate moved by all ``units``, or ``units``² of them by one; summed up number by number."""
    variance, (moved, coordinates) = (noise * units) ** 2, (1, units**2) if spread else (units, 1)
    event = Skellam(noise_multiplier=noise, units=units).event()
    reach = np.arange(-40 * units - 60, 41 * units + 61)
    here, there = (stats.skellam.logpmf(reach - by, variance / 2, variance / 2) for by in (0, moved))
    kept = np.isfinite(here) & np.isfinite(there)
    for order in (2, 3, 5, 8):
        exponent = order * there[kept] + (1 - order) * here[kept]
        divergence = coordinates * np.logaddexp.reduce(exponent) / (order - 1)
        bound = event.rho * order + event.xi
        assert 0 < divergence <= bound
        if units >= 16:  # where it is hardly more than is needed
            assert divergence > 0.89 * bound


def test_nothing_is_gained_by_drawing_few_and_nothing_by_releases_that_cost_more() -> None:
    expected = Skellam(noise_multiplier=2.0, units=2**16)
    assert algorithm().release == algorithm(select=Uniform(cohort=9)).release == expected
    assert expected.covers(expected.model_copy(update={"noise_multiplier": 2.5}))
    assert expected.covers(expected.model_copy(update={"units": 2**17}))
    assert not expected.covers(expected.model_copy(update={"noise_multiplier": 1.9}))
    assert not expected.covers(expected.model_copy(update={"units": 2**15}))
    assert not expected.covers(Gaussian(noise_multiplier=9.0))
    assert not Gaussian(noise_multiplier=1.0).covers(expected)
    assert epsilon([SelfComposed(Skellam(noise_multiplier=0.0, units=1), 1)], DELTA).best == math.inf


def test_a_ledger_can_hold_it_beside_other_noise() -> None:
    one, other = Skellam(noise_multiplier=2.0, units=2**16), Gaussian(noise_multiplier=1.0, sampling_rate=0.1)
    together = epsilon([SelfComposed(one, 2), SelfComposed(other, 3)], DELTA)
    assert together.pld is None
    assert together.best > max(
        epsilon([SelfComposed(one, 2)], DELTA).best, epsilon([SelfComposed(other, 3)], DELTA).best
    )
    read: Release = TypeAdapter(AnyRelease).validate_json(one.model_dump_json())
    assert read == one


# What is sent


@pytest.mark.parametrize("units", [2**8, 2**16, 2**24])
def test_in_steps_no_update_is_longer_than_its_norm_allows(units) -> None:
    """In whole numbers, exactly; and the sum of sizes is at most the sum of squares."""
    rng = np.random.default_rng(0)
    for trial in range(200):
        size, power = int(rng.integers(1, 400)), int(rng.integers(-4, 9))
        vector = (rng.standard_t(2, size) * 10.0**power).astype(np.float32)
        steps = in_steps(vector, 0.7, units)
        squares = sum(int(step) ** 2 for step in steps)
        assert squares <= units**2, trial
        assert int(np.abs(steps).sum()) <= squares
        assert (np.sign(steps) * np.sign(vector) >= 0).all()


@pytest.mark.parametrize("axis", [1.0, -1.0, 3e38, 0.5])
def test_an_update_along_one_axis_is_as_long_as_it_may_be(axis) -> None:
    assert np.abs(in_steps(np.array([0.0, axis], np.float32), 0.5, 2**16)).tolist() in ([0, 2**16], [0, 2**16 - 1])


def test_rounding_loses_less_than_a_step_and_nothing_of_zero() -> None:
    vector = np.random.default_rng(0).normal(size=100).astype(np.float32)
    vector *= np.float32(0.4 / np.linalg.norm(vector))
    steps = in_steps(vector, 0.5, 2**16)
    assert np.abs(vector.astype(np.float64) * 2**17 - steps).max() < 1
    assert not in_steps(np.zeros(5, np.float32), 0.5, 2**16).any()


@each
def test_the_noise_of_the_smallest_cohort_is_as_large_as_said(noise) -> None:
    """Standard deviation 2 · 2¹⁶ in steps; that of one client half of it."""
    messages = [steps_of(sent(noise, np.zeros(SIZE), seed)) for seed in range(4)]
    assert all(message.dtype == np.int64 for message in messages)
    assert np.std(messages[0]) == pytest.approx(2**16, rel=0.035)  # seven standard errors
    total = sum(messages)
    assert np.std(total) == pytest.approx(2 * 2**16, rel=0.035)
    assert stats.kstest(total / 2**17, "norm").pvalue > 1e-6
    assert abs(np.corrcoef(messages[0], messages[1])[0, 1]) < 0.05


@each
def test_the_sum_of_whole_numbers_is_what_the_server_releases(noise) -> None:
    chain, rng, size = algorithm(transforms=(noise,)), np.random.default_rng(3), 1000
    messages = [
        encode(chain, 1, (size,), Trained(update(f"c{seed}", rng.normal(size=size)), {})).update for seed in range(5)
    ]
    rule = chain.rule
    aggregate = rule.next(rule.init(size), [decode(chain, 1, size, one) for one in messages]).result
    np.testing.assert_array_equal(aggregate * 4 * 2**16, sum(map(steps_of, messages)))
    done = noise.finish(noise.init(size), aggregate, ("",) * 5, rng, 0.25)
    np.testing.assert_allclose(done.result, sum(map(steps_of, messages)) * (0.5 / 2**16 / 4), rtol=1e-6)
    assert done.metrics["noise_multiplier_effective"] == pytest.approx(2.0 * math.sqrt(5 / 4))
    assert done.metrics["noise_deviation"] == pytest.approx(2.0 * math.sqrt(5 / 4) * 0.5 / 4)


@each
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_of_an_update_that_is_not_finite_not_even_that_leaves_the_client(noise, wrong) -> None:
    """It carries its part of the noise all the same: a deviation of 2.0 / √4 in units of the norm."""
    delta = np.full(SIZE, 3.0, np.float32)
    delta[7] = wrong
    message = sent(noise, delta)
    assert message.finite
    drawn = steps_of(message) / 2**16
    assert abs(drawn.mean()) < 0.05  # seven standard errors
    assert np.std(drawn) == pytest.approx(1.0, rel=0.035)
    if not noise.secret:
        np.testing.assert_array_equal(steps_of(message), steps_of(sent(noise, np.zeros(SIZE))))


def test_seeded_noise_is_that_of_the_seed_and_secret_noise_of_nothing() -> None:
    zeros = np.zeros(SIZE)
    np.testing.assert_array_equal(steps_of(sent(SEEDED, zeros)), steps_of(sent(SEEDED, zeros)))
    for noise, seeds in ((SEEDED, (0, 1)), (SECRET, (0, 0))):
        one, other = (steps_of(sent(noise, zeros, seed)) for seed in seeds)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


# The round


def test_a_cohort_with_too_little_noise_is_refused_before_anything_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    clients = line_federation(clients=6).clients
    chain = algorithm()
    before = initial_state(chain, FakeEngine(), 6)
    done = one_round(chain, FakeEngine(), before, clients, {})
    assert done.metrics["noise_multiplier_effective"] == 2.0
    summed = list[int]()
    monkeypatch.setattr(FixedMean, "next", lambda *_: summed.append(1))
    with pytest.raises(
        TrainingError, match=r"^round 1: 3 updates carry too little noise, it is sized for at least 4; "
    ):
        server_half(chain, before, done.updates[:3])
    assert summed == []


def test_a_larger_cohort_has_more_noise_and_says_how_much() -> None:
    clients = line_federation(clients=9).clients
    chain = algorithm(select=Uniform(cohort=9))
    done = one_round(chain, FakeEngine(), initial_state(chain, FakeEngine(), 9), clients, {})
    assert done.metrics["noise_multiplier_effective"] == 3.0
    assert {update.weight for update in done.updates} == {1.0}


def test_a_round_that_is_done_again_releases_the_same_and_measures_its_noise() -> None:
    size, rng = 4000, np.random.default_rng(0)
    deltas = [(rng.normal(size=size) * 0.01).astype(np.float32) for _ in range(6)]

    def released(noise: DistributedSkellam):
        messages = [noise.decode(sent(noise, delta, seed), size, rng) for seed, delta in enumerate(deltas)]
        total = np.sum([message.delta for message in messages], axis=0) / np.float32(4)
        return noise.finish(noise.init(size), total, ("",) * 6, rng, 0.25)

    before = released(SECRET)
    again = released(SECRET.again(before.state))
    np.testing.assert_array_equal(again.result, before.result)
    assert again.metrics["noise_multiplier_found"] == pytest.approx(2.0, rel=0.06)
    silent = released(SECRET.again(np.zeros(size, np.float32)))
    assert silent.metrics["noise_multiplier_found"] < 0.2
    assert SEEDED.again(None) is SEEDED
    assert released(SEEDED).state is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": Mean()}, "rule mean has no bound on what one client counts"),
        ({"rule": FixedMean(expected=4.0, cap=9)}, "rule fixed_mean goes by what clients say of themselves"),
        ({"transforms": (SECRET, Quantise())}, "distributed_skellam must be the last"),
        ({"select": BySize(cohort=4)}, "select by_size goes by what clients hold"),
    ],
)
def test_what_noise_in_parts_cannot_hide_is_refused(changes, said) -> None:
    with pytest.raises(ValidationError, match=said):
        algorithm(**changes)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"noise_multiplier": 0.01, "bits": 8}, "a client's noise has a variance of 6.55 steps², .*raise bits"),
        ({"noise_multiplier": 40.0, "bits": 24}, "lower bits, which are 24"),
        ({"least": 0}, "least"),
        ({"norm": 0}, "norm"),
        ({"norm": float("inf")}, "norm"),
        ({"noise_multiplier": 0}, "noise_multiplier"),
    ],
)
def test_noise_that_cannot_be_drawn_is_refused(fields, said) -> None:
    with pytest.raises(ValidationError, match=said):
        DistributedSkellam(**{"norm": 1.0, "noise_multiplier": 1.0, "least": 1} | fields)


def test_it_can_be_written_in_a_plan() -> None:
    written = {"kind": "distributed_skellam", "norm": 0.5, "noise_multiplier": 2.0, "least": 4}
    assert TypeAdapter(AnyTransform).validate_python(written) == SECRET
