"""Correlated noise: its algebra, how strong it is, what it hides, and which trainings it is for."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import linalg

from federated.algorithm import Algorithm
from federated.corrections import Scaffold
from federated.errors import TrainingError
from federated.packing import pack, unpack
from federated.privacy.prefix_sums import factor, inverse, sensitivity
from federated.privacy.releases import Gaussian
from federated.randomness import generator
from federated.rules import FixedMean, Mean
from federated.selectors import BySize, Poisson, PowerOfChoice, RoundRobin, Uniform
from federated.transforms import AnyTransform, Clip, CorrelatedGaussian, Quantise
from federated.transforms.transform import Sized
from tests.fakes import update

SIZE = 20_000
ROUNDS = 6
NOISE = CorrelatedGaussian(norm=0.5, noise_multiplier=2.0, rounds=ROUNDS, participations=2, seeded=True)
SECRET = NOISE.model_copy(update={"seeded": False})
KEY = bytes(range(32))


def trained(rounds: int = ROUNDS, seed: int = 0):
    """What so many rounds of zero updates release, one row each, with nobody in them."""
    state, released = NOISE.init(SIZE), []
    for number in range(1, rounds + 1):
        rng = generator(seed, number, "finish-0")
        state, result, _ = NOISE.finish(state, np.zeros(SIZE, np.float32), (), rng, 0.1)
        released.append(result)
    return np.array(released)


def sent(names):
    """Updates of these clients."""
    return [update(name, [0.0]) for name in names]


def square(column: np.ndarray) -> np.ndarray:
    return np.tril(linalg.toeplitz(column))


@pytest.mark.parametrize("rounds", [1, 2, 3, 50, 400])
def test_the_factor_is_the_square_root_of_the_prefix_sums_and_has_its_inverse(rounds: int) -> None:
    root = square(factor(rounds))
    np.testing.assert_allclose(root @ root, np.tril(np.ones((rounds, rounds))), rtol=1e-12)
    np.testing.assert_allclose(root @ square(inverse(rounds)), np.eye(rounds), atol=1e-13)


def test_the_factor_begins_as_the_paper_says() -> None:
    np.testing.assert_allclose(factor(5), [1, 1 / 2, 3 / 8, 5 / 16, 35 / 128], rtol=1e-15)


@pytest.mark.parametrize(("rounds", "correlated", "independent"), [(100, 2.53, 10.0), (500, 3.04, 22.4)])
def test_prefix_sums_have_far_less_noise_than_independent_rounds(rounds, correlated, independent) -> None:
    """Of one participation: A C⁻¹ z, with z as large as the sensitivity, by explicit matrices."""
    sums = np.tril(np.ones((rounds, rounds)))
    noise = np.linalg.norm(sums @ square(inverse(rounds)), axis=1) * sensitivity(rounds, 1)
    assert noise.max() == noise[-1] == pytest.approx(correlated, abs=0.005)
    assert np.linalg.norm(sums, axis=1).max() == pytest.approx(independent, abs=0.05)


@pytest.mark.parametrize("rounds", range(1, 11))
def test_no_pattern_of_participation_exceeds_the_sensitivity_and_one_meets_it(rounds: int) -> None:
    root = square(factor(rounds))
    for participations in range(1, rounds + 1):
        patterns = [
            np.linalg.norm(root[:, list(pattern)].sum(axis=1))
            for count in range(1, participations + 1)
            for pattern in combinations(range(rounds), count)
        ]
        assert max(patterns) == pytest.approx(sensitivity(rounds, participations), rel=1e-12)
        assert sensitivity(rounds, participations) <= participations * np.linalg.norm(root[:, 0]) * (1 + 1e-12)


def test_no_updates_of_norm_1_move_what_is_noised_further_than_the_sensitivity() -> None:
    """Updates that differ in direction, and in size, from round to round."""
    rng, rounds = np.random.default_rng(5), 8
    root, most = square(factor(rounds)), 0.0
    for _ in range(500):
        taken = rng.choice(rounds, size=3, replace=False)
        moved = np.zeros((rounds, 3))
        moved[taken] = rng.normal(size=(3, 3)) + rng.normal(scale=5, size=3)
        moved[taken] /= np.linalg.norm(moved[taken], axis=1, keepdims=True) * rng.uniform(1, 1.1, size=(3, 1))
        most = max(most, float(np.linalg.norm(root @ moved)))
    assert 0.9 * sensitivity(rounds, 3) < most <= sensitivity(rounds, 3)


def test_released_noise_times_the_factor_is_independent_and_as_large_as_said() -> None:
    """So all rounds together are the Gaussian mechanism that is paid for, on sums that the factor mixes."""
    deviation = 2.0 * 0.5 * 0.1 * sensitivity(ROUNDS, 2)
    z = square(factor(ROUNDS)) @ trained()
    np.testing.assert_allclose(np.cov(z) / deviation**2, np.eye(ROUNDS), atol=0.05)  # seven standard errors


def test_prefix_sums_of_the_released_noise_have_the_covariance_of_the_factor() -> None:
    deviation, root = 2.0 * 0.5 * 0.1 * sensitivity(ROUNDS, 2), square(factor(ROUNDS))
    found = np.cov(np.cumsum(trained(), axis=0)) / deviation**2
    np.testing.assert_allclose(found, root @ root.T, atol=0.12)
    assert np.abs(found - np.eye(ROUNDS)).max() > 0.3


def test_noise_is_added_to_the_aggregate_whatever_that_is() -> None:
    aggregate = np.linspace(-3, 3, SIZE, dtype=np.float32)
    _, released, metrics = NOISE.finish(NOISE.init(SIZE), aggregate, sent(["a"]), generator(0, 1, "finish-0"), 0.1)
    np.testing.assert_allclose(released - aggregate, trained(rounds=1)[0], atol=1e-6)
    assert released.dtype == np.float32
    assert metrics == {"noise_deviation": pytest.approx(0.1 * sensitivity(ROUNDS, 2))}


def test_the_noise_that_a_round_reports_is_what_it_adds() -> None:
    state = NOISE.init(SIZE)
    for number in range(1, ROUNDS + 1):
        state, drawn, metrics = NOISE.finish(state, np.zeros(SIZE), (), generator(0, number, "finish-0"), 0.1)
        assert np.std(drawn) == pytest.approx(metrics["noise_deviation"], rel=0.035)  # seven standard errors


def test_the_noise_of_a_round_is_a_function_of_seed_and_round_alone() -> None:
    first = trained()
    np.testing.assert_array_equal(first, trained())
    np.testing.assert_array_equal(first[:3], trained(rounds=3))
    assert (first != trained(seed=1)).any(axis=1).all()
    state, others = NOISE.init(SIZE), []
    for number, cohort in enumerate([("a",), ("b", "c"), ("a", "b")], 1):
        aggregate = np.full(SIZE, number, np.float32)
        state, result, _ = NOISE.finish(state, aggregate, sent(cohort), generator(0, number, "finish-0"), 0.1)
        others.append(result - aggregate)
        state = unpack(*pack(state), NOISE.init(SIZE))  # as a training that goes on after a checkpoint
    np.testing.assert_allclose(others, first[:3], atol=1e-6)


def test_more_rounds_than_it_is_sized_for_are_refused() -> None:
    with pytest.raises(TrainingError, match="noise for 6 rounds, and all are over; begin another training"):
        trained(rounds=ROUNDS + 1)


def after(cohorts: list[tuple[str, ...]]):
    state = NOISE.init(4)
    for number, cohort in enumerate(cohorts, 1):
        state = NOISE.finish(state, np.zeros(4), sent(cohort), generator(0, number, "finish-0"), 0.1).state
    return state


def test_a_client_that_comes_too_often_ends_the_training_before_anything_is_released() -> None:
    assert after([("a", "b"), ("a",), ("b", "c")]).taken == {"a": 2, "b": 2, "c": 1}
    with pytest.raises(TrainingError, match="client b has taken part in 2 rounds, for which its noise is sized"):
        after([("a", "b"), ("a",), ("b", "c"), ("b",)])


@pytest.mark.parametrize(
    "change", [{"norm": 0.4}, {"noise_multiplier": 3.0}, {"rounds": 9}, {"participations": 3}, {"norm": 1.0}]
)
def test_noise_that_is_sized_otherwise_half_way_is_refused(change: dict[str, float]) -> None:
    other = CorrelatedGaussian(**NOISE.model_dump() | change)
    with pytest.raises(TrainingError, match="earlier rounds had noise that was sized otherwise"):
        other.finish(after([("a",)]), np.zeros(4), sent(["b"]), generator(0, 2, "finish-0"), 0.1)
    with pytest.raises(TrainingError, match="sized otherwise"):
        NOISE.finish(after([("a",)]), np.zeros(4), sent(["b"]), generator(0, 2, "finish-0"), 0.2)


def secret_rounds(noise: CorrelatedGaussian, rounds: int, state=None, size: int = SIZE):
    """Rounds of zero updates, and the state after them, packed and unpacked after each as a checkpoint is."""
    state, released = state or SECRET.init(size), []
    for number in range(1, rounds + 1):
        done = noise.finish(state, np.zeros(size, np.float32), (), generator(0, number, "finish-0"), 0.1)
        state = unpack(*pack(done.state), SECRET.init(size))
        released.append(done.result)
    return state, np.array(released)


def test_secret_noise_is_correlated_likewise_and_another_in_every_training() -> None:
    deviation = 2.0 * 0.5 * 0.1 * sensitivity(ROUNDS, 2)
    (_, one), (_, other) = (secret_rounds(SECRET.keyed(KEY), ROUNDS) for _ in range(2))
    z = square(factor(ROUNDS)) @ np.concatenate([one, other], axis=1) / deviation
    np.testing.assert_allclose(np.cov(z), np.eye(ROUNDS), atol=0.05)
    both = np.corrcoef(np.concatenate([one, other]))[:ROUNDS, ROUNDS:]
    assert np.abs(both).max() < 0.05


def test_a_round_that_is_drawn_again_has_a_draw_of_its_own_and_the_earlier_ones_stay() -> None:
    noise = SECRET.keyed(KEY)
    state, (first,) = secret_rounds(noise, 1)
    (_, (one,)), (_, (other,)) = (secret_rounds(noise, 1, state) for _ in range(2))
    taken_back = inverse(2)[1] * first
    assert abs(np.corrcoef(one - taken_back, other - taken_back)[0, 1]) < 0.05
    assert np.corrcoef(one, first)[0, 1] == pytest.approx(np.corrcoef(other, first)[0, 1], abs=0.05)
    assert np.corrcoef(one, first)[0, 1] < -0.3


def test_secret_noise_needs_its_key_and_no_other_and_no_state_has_it() -> None:
    state, _ = secret_rounds(SECRET.keyed(KEY), 2, size=4)
    with pytest.raises(TrainingError, match="secret noise is drawn with a key, and there is none"):
        secret_rounds(SECRET, 1, state, size=4)
    with pytest.raises(TrainingError, match="earlier rounds was drawn with another key, which comes from the key that"):
        secret_rounds(SECRET.keyed(bytes([1] * 32)), 1, state, size=4)
    assert secret_rounds(SECRET.keyed(KEY), 1, state, size=4)[0].nonces[:2] == state.nonces
    keyed, written = SECRET.keyed(KEY), json.dumps(pack(state)[0])
    for secret in (KEY.hex(), keyed._key.hex(), repr(KEY), repr(keyed._key)):
        assert secret not in written + repr(keyed) + str(keyed) + keyed.model_dump_json()
    assert keyed._key
    assert NOISE.keyed(KEY) is NOISE


def test_low_bits_of_secret_noise_do_not_betray_the_aggregate() -> None:
    noise, state = SECRET.keyed(KEY), None
    grid = noise.deviation(0.1) * 2.0**-30
    for aggregate in (1 / 3, 1e-9):
        done = noise.finish(state or SECRET.init(SIZE), np.full(SIZE, aggregate), (), generator(0, 1, ""), 0.1)
        state, steps = done.state, done.result.astype(np.float64) / grid
        small = np.abs(done.result) < grid * 2**23  # float32 has bits to spare there
        assert small.any()
        np.testing.assert_allclose(steps[small], np.rint(steps[small]), atol=1e-6 * 2**23)


def test_a_round_with_secret_noise_is_done_again_from_what_it_released_and_its_noise_is_measured() -> None:
    noise, state = SECRET.keyed(KEY), SECRET.init(SIZE)
    aggregate = np.linspace(-1, 1, SIZE, dtype=np.float32)
    for number in range(1, 4):
        before = state
        state, released, _ = noise.finish(before, aggregate, sent(["a"][: number % 3]), generator(0, number, ""), 0.1)
        again = SECRET.again(state).finish(before, aggregate, (), generator(0, number, ""), 0.1)
        np.testing.assert_array_equal(again.result, released)
        assert again.state == state
        assert again.metrics["noise_multiplier_found"] == pytest.approx(2.0, rel=0.035)
    weak = SECRET.again(state._replace(noised=(aggregate + (released - aggregate) / 2).astype(np.float32)))
    found = weak.finish(before, aggregate, (), generator(0, 3, ""), 0.1).metrics["noise_multiplier_found"]
    assert found == pytest.approx(1.0, rel=0.035)
    assert NOISE.again(None) is NOISE


def test_it_clips_as_clip_does() -> None:
    for delta in ([3.0, 4.0], [0.03, 0.04], [0.0, 0.0]):
        given = update("a", delta)
        expected = Clip(norm=0.5).encode(given, (2,), np.random.default_rng(0)).delta
        np.testing.assert_array_equal(NOISE.encode(given, (2,), np.random.default_rng(0)).delta, expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"participations": 7}, "participations must not exceed rounds, got 7 of 6"),
        ({"participations": 0}, "greater than or equal to 1"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"noise_multiplier": 0}, "greater than 0"),
        ({"norm": 0}, "greater than 0"),
        ({"norm": float("inf")}, "finite number"),
    ],
)
def test_noise_that_cannot_be_sized_is_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CorrelatedGaussian(**NOISE.model_dump() | change)


def algorithm(**changes) -> Algorithm:
    return Algorithm(
        **{"rule": FixedMean(expected=2.0), "transforms": (NOISE,), "select": RoundRobin(cohort=2)} | changes
    )


@pytest.mark.parametrize("select", [RoundRobin(cohort=2), Uniform(cohort=2), Poisson(rate=0.2)], ids=repr)
def test_a_training_is_one_release_and_gains_nothing_by_sampling(select) -> None:
    found = algorithm(select=select)
    assert found.release == Gaussian(noise_multiplier=2.0, sampling_rate=1.0)
    assert found.sized == Sized(rounds=ROUNDS, participations=2)
    assert (found.unit, found.secret, found.noised_by) == ("client", False, "server")
    assert Algorithm().sized is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": Mean()}, "rule mean has no bound on what one client counts"),
        ({"select": BySize(cohort=2)}, "select by_size goes by what clients hold"),
        ({"select": PowerOfChoice(cohort=2, candidates=3)}, "select power_of_choice goes by what clients hold"),
        ({"correction": Scaffold()}, "correction scaffold"),
        ({"transforms": (NOISE, Quantise())}, "correlated_gaussian must be the last"),
        ({"transforms": (NOISE, NOISE)}, "one of them may add noise, got 2"),
    ],
)
def test_what_noise_cannot_hide_is_refused(changes, said) -> None:
    with pytest.raises(ValidationError, match=said):
        algorithm(**changes)


def test_it_can_be_written_in_a_plan() -> None:
    written = {"kind": "correlated_gaussian", "norm": 0.5, "noise_multiplier": 2.0, "rounds": 6, "participations": 2}
    assert TypeAdapter(AnyTransform).validate_python(written | {"seeded": True}) == NOISE
