"""Noise on the server: as much as is said, on whatever cohort, and nothing that betrays the clients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from federated.algorithm import Algorithm
from federated.corrections import Scaffold
from federated.privacy.releases import Gaussian
from federated.randomness import generator
from federated.rounds import broadcast, client_half, initial_state, server_half
from federated.rules import FixedMean, Mean
from federated.selectors import All, Poisson, Uniform
from federated.transforms import AnyTransform, CentralGaussian, Clip, CorrelatedGaussian, LocalGaussian, Quantise
from federated.updates import l2_norm, screen
from tests.fakes import FakeEngine, line_federation, plain_sgd, update

SIZE = 40_000
SEEDED = CentralGaussian(norm=0.5, noise_multiplier=2.0, seeded=True)
SECRET = CentralGaussian(norm=0.5, noise_multiplier=2.0)
each = pytest.mark.parametrize("noise", [SEEDED, SECRET], ids=["seeded", "secret"])


def finished(noise: CentralGaussian, aggregate: np.ndarray, share: float = 0.1, cohort=("a",), round: int = 1):
    return noise.finish(noise.init(aggregate.size), aggregate, cohort, generator(0, round, "finish-0"), share)


def zeros(size: int = SIZE) -> np.ndarray:
    return np.zeros(size, np.float32)


@each
def test_the_noise_is_gaussian_and_as_large_as_said(noise) -> None:
    """Standard deviation 2.0 · 0.5 · 0.1; the seed of the secret one is another every time."""
    released = finished(noise, zeros())
    assert released.metrics == {"noise_deviation": pytest.approx(0.1)}
    assert np.std(released.result) == pytest.approx(0.1, rel=0.025)  # seven standard errors
    assert stats.kstest(released.result / 0.1, "norm").pvalue > 1e-6
    assert released.result.dtype == np.float32


@each
def test_the_noise_is_added_to_the_aggregate_whatever_that_is(noise) -> None:
    aggregate = np.linspace(-3, 3, SIZE, dtype=np.float32)
    drawn = finished(noise, aggregate).result - aggregate
    assert np.std(drawn) == pytest.approx(0.1, rel=0.025)
    assert abs(np.corrcoef(drawn, aggregate)[0, 1]) < 0.04
    assert abs(np.mean(drawn)) < 0.004


@pytest.mark.parametrize("cohort", [(), ("a",), ("a", "b", "c")])
def test_how_many_there_were_does_not_change_the_noise(cohort) -> None:
    one, other = (finished(SEEDED, zeros(), cohort=names).result for names in (cohort, ("a", "b")))
    np.testing.assert_array_equal(one, other)


def test_seeded_noise_is_a_function_of_seed_and_round_and_secret_noise_of_nothing() -> None:
    np.testing.assert_array_equal(finished(SEEDED, zeros()).result, finished(SEEDED, zeros()).result)
    assert (finished(SEEDED, zeros()).result != finished(SEEDED, zeros(), round=2).result).any()
    assert abs(np.corrcoef(finished(SECRET, zeros()).result, finished(SECRET, zeros()).result)[0, 1]) < 0.04


def test_low_bits_do_not_betray_the_aggregate() -> None:
    """What is released lies on a grid that is the same for every aggregate."""
    for aggregate in (zeros(), np.full(SIZE, 1 / 3, np.float32), np.full(SIZE, 1e-9, np.float32)):
        released = finished(SECRET, aggregate, share=1.0).result.astype(np.float64)
        steps = released / 2.0**-30  # the deviation is 1
        np.testing.assert_array_equal(steps, np.rint(steps))


@each
def test_it_clips_as_clip_does(noise) -> None:
    for delta in ([3.0, 4.0], [0.03, 0.04], [0.0, 0.0]):
        given = update("a", delta)
        clipped = noise.encode(given, (2,), np.random.default_rng(0))
        expected = Clip(norm=0.5).encode(given, (2,), np.random.default_rng(0))
        np.testing.assert_array_equal(clipped.delta, expected.delta)
        assert l2_norm(clipped.delta) <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("wrong", [{"norm": 0}, {"norm": float("inf")}, {"noise_multiplier": 0}, {"norm": -1}])
def test_what_hides_nothing_or_everything_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        CentralGaussian(**{"norm": 1.0, "noise_multiplier": 1.0} | wrong)


@each
def test_a_round_that_is_done_again_releases_the_same(noise) -> None:
    aggregate = np.linspace(-1, 1, SIZE, dtype=np.float32)
    before = finished(noise, aggregate)
    again = noise.again(before.state)
    repeated = finished(again, aggregate)
    np.testing.assert_array_equal(repeated.result, before.result)
    if noise.secret:
        assert repeated.metrics["noise_multiplier_found"] == pytest.approx(2.0, rel=0.025)
        silent = finished(noise.again(aggregate), aggregate)
        assert silent.metrics["noise_multiplier_found"] == 0.0


def test_one_update_is_hidden_by_the_same_noise_however_many_others_there_are() -> None:
    """What one client adds to the aggregate is at most norm · share: of every rule that takes noise."""
    rule = FixedMean(expected=4.0, cap=10)
    rng = np.random.default_rng(0)
    others = [update(f"c{n}", rng.normal(size=5), rule.weigh("", {}, n)) for n in range(30)]
    mine = SECRET.encode(update("me", rng.normal(size=5) * 100, 1e9), (5,), rng)
    for count in (0, 1, 30):
        without, with_me = (rule.next(rule.init(5), some).result for some in (others[:count], [*others[:count], mine]))
        assert l2_norm(with_me - without) <= SECRET.norm * rule.share * (1 + 1e-5)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_no_update_turns_how_thousands_of_others_are_rounded(weight) -> None:
    """In float32 this one, of norm 0.001, would move their sum by 1 (Casacuberta et al. 2022)."""
    rule, many = FixedMean(expected=1.0, cap=10), 4096
    step = many * 2.0**-24
    mine = 4 * step
    sums = [
        rule.next(
            rule.init(1),
            (update("c", [value], weight) for value in (*[1.0] * many, mine, own, *[-step] * many)),
        ).result[0]
        for own in (0.0, -mine)
    ]
    assert abs(sums[0] - sums[1]) == pytest.approx(weight * mine, rel=1e-6)


CORRELATED = CorrelatedGaussian(norm=0.5, noise_multiplier=2.0, rounds=3, participations=3, seeded=True)
LOCAL = LocalGaussian(norm=0.5, noise_multiplier=2.0, seeded=True)


@pytest.mark.parametrize("noise", [SEEDED, CORRELATED, LOCAL], ids=lambda noise: noise.kind)
def test_a_client_that_drops_or_sends_no_number_takes_nothing_but_its_update_away(noise) -> None:
    """Of a round that is paid for: the noise is as large, and what is released costs as much."""
    engine, federation = FakeEngine(), line_federation(clients=3)
    chain = algorithm(local=plain_sgd(), select=All(), rule=FixedMean(expected=3.0), transforms=(noise,))
    state = initial_state(chain, engine, 3)
    sent = [client_half(chain, engine, broadcast(chain, state), one).update for one in federation.clients.values()]
    wrong = replace(sent[-1], delta=np.full_like(sent[-1].delta, np.nan))
    usable = screen(1, [*sent[:-1], wrong], quorum=1)
    assert usable.left_out == (sent[-1].client,)
    (whole, told), (fewer, also) = (server_half(chain, state, some) for some in (sent, usable.updates))
    assert told.get("noise_deviation") == also.get("noise_deviation")
    np.testing.assert_allclose(whole.params - fewer.params, sent[-1].delta / 3, atol=1e-6)
    nobody = server_half(chain, state, [])[0].params - state.params
    assert (nobody != 0).all() or noise is LOCAL, "noise alone; of messages that hide themselves, nothing"


def algorithm(**changes) -> Algorithm:
    return Algorithm(
        **{"rule": FixedMean(expected=2.0), "transforms": (SECRET,), "select": Poisson(rate=0.2)} | changes
    )


def test_an_algorithm_knows_what_its_rounds_release() -> None:
    assert algorithm().release == Gaussian(noise_multiplier=2.0, sampling_rate=0.2)
    assert algorithm(select=All()).release == Gaussian(noise_multiplier=2.0, sampling_rate=1.0)
    assert algorithm(transforms=()).release is None
    assert (algorithm().secret, algorithm(transforms=(SEEDED,)).secret, Algorithm().secret) == (True, False, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": Mean()}, "rule mean has no bound on what one client counts.*use fixed_mean"),
        ({"select": Uniform(cohort=2)}, "select uniform does not draw each client by itself.*use poisson, or all"),
        ({"correction": Scaffold()}, "correction scaffold"),
        ({"transforms": (SECRET, Quantise())}, "central_gaussian must be the last"),
        ({"transforms": (SECRET, SEEDED)}, "one of them may add noise, got 2"),
    ],
)
def test_what_noise_cannot_hide_is_refused(changes, said) -> None:
    with pytest.raises(ValidationError, match=said):
        algorithm(**changes)


def test_it_can_be_written_in_a_plan() -> None:
    written = {"kind": "central_gaussian", "norm": 0.5, "noise_multiplier": 2.0}
    assert TypeAdapter(AnyTransform).validate_python(written) == SECRET
    assert TypeAdapter(AnyTransform).validate_python({"kind": "clip", "norm": 0.5}) == Clip(norm=0.5)
