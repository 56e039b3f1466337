"""Canaries in real rounds: they find no more than noise is said to hide, and all of what it does not hide."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.data import Client, Split
from federated.loop import one_round
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.auditing import Scored, clopper_pearson, noise_at_most, one_run
from federated.privacy.canaries import Canaries, audited_round, draw
from federated.privacy.releases import Gaussian
from federated.rounds import ServerState, initial_state, server_half
from federated.rules import FixedMean
from federated.selectors import All, Poisson
from federated.transforms import CentralGaussian, Clip, Transform
from federated.updates import Update, l2_norm
from tests.fakes import FakeEngine, plain_sgd, update

DELTA, SIZE, COUNT, ROUNDS = 1e-5, 256, 250, 16
EVERYBODY = All()
ENGINE = FakeEngine(features=SIZE - 1)
OTHERS = [update(f"other-{n}", np.random.default_rng(n).normal(0, 0.02, SIZE)) for n in range(5)]


@cache
def drawn(place: int) -> Canaries:
    """The same for all tests: to draw them takes longer than a round."""
    return draw(COUNT, SIZE, 1.0, np.random.default_rng(place))


def noised(noise_multiplier: float, seeded: bool = True) -> CentralGaussian:
    return CentralGaussian(norm=1.0, noise_multiplier=noise_multiplier, seeded=seeded)


def algorithm(*transforms: Transform, select: All | Poisson = EVERYBODY) -> Algorithm:
    return Algorithm(
        seed=3,
        select=select,
        local=plain_sgd(0.5),
        transforms=transforms,
        rule=FixedMean(expected=125.0),
    )


def claim(rounds: int = 1, **release) -> float:
    return epsilon([SelfComposed(Gaussian(**release), rounds)], DELTA).best


Audited = Callable[[Algorithm, ServerState, Canaries], tuple[ServerState, Scored]]


def by_the_book(audited: Algorithm, state: ServerState, canaries: Canaries) -> tuple[ServerState, Scored]:
    """Beside others' updates, all of them encoded as clients do."""
    return audited_round(audited, ENGINE.layers, state, OTHERS, canaries)


def past_the_client(audited: Algorithm, state: ServerState, canaries: Canaries) -> tuple[ServerState, Scored]:
    """Clients do not clip."""
    after, _ = server_half(audited, state, [*OTHERS, *canaries.updates()])
    return after, canaries.seen(state.params, after.params)


def trained_by_clients(audited: Algorithm, state: ServerState, canaries: Canaries) -> tuple[ServerState, Scored]:
    """Canaries are clients, with rows that make their training move just so; all of a round is real."""
    clients = {own.client: client_that_sends(own, state) for own in canaries.updates()}
    passed = one_round(audited, ENGINE, state, clients, {})
    return passed.state, canaries.seen(state.params, passed.state.params)


def client_that_sends(wanted: Update, state: ServerState) -> Client:
    """A row (x, y) of a line: a step of rate 1/2 on its squared error is the error times (x, 1)."""
    *slopes, error = wanted.delta.astype(np.float64)
    x = np.array(slopes) / error
    *weights, bias = state.params
    row = Split(x[None].astype(np.float32), np.array([x @ weights + bias + error], np.float32))
    return Client(wanted.client, row, row.take(np.arange(0)))


def scored(audited: Algorithm, norm: float = 1.0, by: Audited = by_the_book) -> Scored:
    """From rounds each with canaries of its own: no client is in two of them, so that one round's ε is all."""
    state, found = initial_state(audited, ENGINE, COUNT), []
    for place in range(ROUNDS):
        state, seen = by(audited, state, drawn(place)._replace(norm=norm))
        found.append(seen)
    return together(found)


def together(found: list[Scored]) -> Scored:
    return Scored(np.concatenate([one.scores for one in found]), np.concatenate([one.included for one in found]))


def bounds(found: Scored) -> tuple[float, float]:
    return clopper_pearson(found, DELTA), one_run(found, DELTA)


def audit(audited: Algorithm, norm: float = 1.0, by: Audited = by_the_book) -> tuple[float, float]:
    return bounds(scored(audited, norm, by))


@pytest.mark.parametrize(("noise", "least"), [(0.5, 3.0), (1.0, 1.1), (2.0, 0.3)])
def test_no_bound_exceeds_the_claim_and_none_is_blind(noise, least) -> None:
    found = audit(algorithm(noised(noise)))
    assert max(found) <= claim(noise_multiplier=noise)
    assert min(found) > least


def test_noise_of_the_operating_system_hides_as_much() -> None:
    found = audit(algorithm(noised(1.0, seeded=False)))
    assert max(found) <= claim(noise_multiplier=1.0)
    assert min(found) > 0.5


@pytest.mark.parametrize("broken", [Clip(norm=1.0), noised(0.1)], ids=["no noise", "a tenth of the noise"])
def test_less_noise_than_claimed_is_caught(broken) -> None:
    assert min(audit(algorithm(broken))) > claim(noise_multiplier=1.0)


def test_updates_that_are_not_clipped_are_caught() -> None:
    """Canaries are ten times as large as the norm; where clients clip, they tell no more than others."""
    promised = claim(noise_multiplier=1.0)
    assert min(audit(algorithm(noised(1.0)), norm=10.0, by=past_the_client)) > promised
    assert max(audit(algorithm(noised(1.0)), norm=10.0)) <= promised


def test_a_little_too_little_is_caught_where_the_claim_is_gaussian_noise() -> None:
    """Noise, clipping and both as claimed; a quarter too little noise; updates a third too large."""
    honest, weak = algorithm(noised(1.0)), algorithm(noised(0.75))
    assert 1.0 <= noise_at_most(scored(honest)) < 1.25
    assert 1.0 <= noise_at_most(scored(honest, norm=10.0)) < 1.25
    assert noise_at_most(scored(weak)) < 1.0
    assert noise_at_most(scored(honest, norm=4 / 3, by=past_the_client)) < 1.0


def test_a_client_that_claims_to_weigh_more_is_not_heard_better() -> None:
    """Canaries say that they have 10⁹ examples, and the server counts them as one client each."""
    loud = drawn(0).updates()
    assert {own.weight for own in loud} == {1e9}
    state = initial_state(algorithm(), ENGINE, COUNT)
    (one, _), (other, _) = (
        server_half(algorithm(), state, updates)
        for updates in (loud, [update(own.client, own.delta, 1.0) for own in loud])
    )
    np.testing.assert_array_equal(one.params, other.params)


@pytest.mark.parametrize("norm", [1.0, 10.0])
def test_clients_that_train_are_hidden_too(norm) -> None:
    """All of a round: selection, training on a client's own rows, clipping, screening, noise."""
    found = audit(algorithm(noised(1.0)), norm=norm, by=trained_by_clients)
    assert max(found) <= claim(noise_multiplier=1.0)
    assert min(found) > 1.1


def test_clients_that_train_are_found_without_noise() -> None:
    found = audit(algorithm(Clip(norm=1.0)), norm=10.0, by=trained_by_clients)
    assert min(found) > claim(noise_multiplier=1.0)


def test_clients_drawn_by_chance_are_hidden_as_well_as_the_ledger_says() -> None:
    sampled = algorithm(noised(0.5), select=Poisson(rate=0.5))
    assert sampled.release == Gaussian(noise_multiplier=0.5, sampling_rate=0.5)
    found = audit(sampled, by=trained_by_clients)
    assert 0.3 < min(found) <= max(found) <= claim(noise_multiplier=0.5, sampling_rate=0.5)


def test_sampling_that_is_claimed_and_not_done_is_caught() -> None:
    claimed = algorithm(noised(0.6), select=Poisson(rate=0.01)).release
    found = audit(algorithm(noised(0.6)))
    assert min(found) > epsilon([SelfComposed(claimed, 1)], DELTA).best
    assert max(found) <= claim(noise_multiplier=0.6)


def test_rounds_add_up_and_uncounted_ones_are_caught() -> None:
    """2,000 canaries, each in sixteen rounds: more than one round may tell, and no more than sixteen may."""
    audited, rounds, found = algorithm(noised(2.0)), 16, []
    for place in range(8):
        canaries = drawn(place)
        state = begun = initial_state(audited.model_copy(update={"seed": place}), ENGINE, COUNT)
        for _ in range(rounds):
            state, _ = by_the_book(audited.model_copy(update={"seed": place}), state, canaries)
        found.append(canaries.seen(begun.params, state.params))
    assert min(bounds(together(found))) > claim(noise_multiplier=2.0)
    assert max(bounds(together(found))) <= claim(rounds, noise_multiplier=2.0)


def test_canaries_are_orthonormal_and_their_coins_fair() -> None:
    canaries = drawn(0)
    np.testing.assert_allclose(canaries.directions @ canaries.directions.T, np.eye(COUNT), atol=1e-5)
    assert 90 < canaries.included.sum() < 160
    assert len(canaries.updates()) == canaries.included.sum()
    np.testing.assert_allclose([l2_norm(own.delta) for own in canaries._replace(norm=3.0).updates()], 3.0, rtol=1e-5)


def test_where_everybody_sends_those_left_out_send_zeros() -> None:
    canaries = drawn(0)._replace(norm=3.0)
    everybody = canaries.everybody()
    assert len({own.client for own in everybody}) == COUNT
    np.testing.assert_allclose([l2_norm(own.delta) for own in everybody], 3.0 * canaries.included, rtol=1e-5)
    assert {own.client for own in canaries.updates()} == {own.client for own in everybody if own.delta.any()}


def test_canaries_of_other_chance_are_others() -> None:
    assert abs(np.sum(drawn(0).directions[0] * drawn(1).directions[0])) < 0.3
    assert (drawn(0).included != drawn(1).included).any()


def test_a_canary_is_seen_by_how_far_the_model_went_its_way() -> None:
    """Moving statistics behind the trained weights are not looked at."""
    canaries = draw(3, 5, 1.0, np.random.default_rng(0))
    before = np.arange(7, dtype=np.float32)
    moved = np.concatenate([0.25 * canaries.directions[1], [9.0, 9.0]]).astype(np.float32)
    found = canaries.seen(before, before + moved)
    np.testing.assert_allclose(found.scores, [0, 0.25, 0], atol=1e-6)
    np.testing.assert_array_equal(found.included, canaries.included)


@pytest.mark.parametrize("count", [0, 6])
def test_more_canaries_than_dimensions_are_refused(count) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 5 canaries, one a dimension at most, got {count}"):
        draw(count, 5, 1.0, np.random.default_rng(0))
