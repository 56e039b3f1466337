"""Canaries against every transform that adds noise: each hides what it says, and without its parts it is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest

from federated import onion, rounds
from federated.algorithm import Algorithm
from federated.errors import TrainingError
from federated.onion import Trained, encode
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.auditing import Scored, noise_at_most
from federated.privacy.canaries import Canaries, audited_messages, audited_round, audited_training, in_the_first
from federated.randomness import generator
from federated.rounds import ServerState, broadcast, initial_state
from federated.transforms import (
    AdaptiveGaussian,
    AnyTransform,
    CentralGaussian,
    Clip,
    CorrelatedGaussian,
    DistributedSkellam,
    LocalGaussian,
    Transform,
    adaptive,
    distributed_noise,
    local_noise,
    noising,
)
from tests.fakes import update
from tests.federated.test_canaries import COUNT, DELTA, ENGINE, OTHERS, algorithm, bounds, drawn, together

TRAININGS, ROUNDS, OFTEN = 16, 8, 2


class Mechanism(NamedTuple):
    """One that adds noise: ``made`` with a noise multiplier for updates of norm 1, and attacked from a state on.

    ``noise`` and ``clip`` are where the code draws its noise and limits updates, and what a broken one has there: of
    the noise so much is left.
    """

    made: Callable[[float], Transform]
    attack: Callable[[Algorithm, ServerState, Canaries], Scored]
    noise: tuple[Any, str, Callable[[Callable[..., Any], float], Callable[..., Any]]]
    clip: tuple[Any, str, Callable[..., Any]] = (Clip, "encode", lambda _, update, layers, rng: update)


def one_round(audited: Algorithm, state: ServerState, canaries: Canaries) -> tuple[ServerState, Scored]:
    heard = audited.hearing(broadcast(audited, state).transforms)
    others = [encode(heard, state.round + 1, ENGINE.layers, Trained(other, {})).update for other in OTHERS]
    return audited_round(audited, ENGINE.layers, state, others, canaries)


def by_round(audited: Algorithm, state: ServerState, canaries: Canaries) -> Scored:
    return one_round(audited, state, canaries)[1]


def by_sum(audited: Algorithm, state: ServerState, canaries: Canaries) -> Scored:
    """Of as few messages as may be summed: there is nobody else."""
    return audited_round(audited, ENGINE.layers, state, [], canaries)[1]


def by_message(audited: Algorithm, state: ServerState, canaries: Canaries) -> Scored:
    return audited_messages(audited, ENGINE.layers, state, canaries)


def by_adapted_round(audited: Algorithm, state: ServerState, canaries: Canaries) -> Scored:
    """The third round: the norm has moved twice, and noise goes by it. All that is known."""
    for _ in range(2):
        state, _ = one_round(audited, state, canaries)
    return in_norms(state, one_round(audited, state, canaries)[1])


def in_norms(state: ServerState, found: Scored) -> Scored:
    return found._replace(scores=found.scores / state.transforms[0].norm)


def rows_of(audited: Algorithm, state: ServerState, canaries: Canaries, often: int = OFTEN) -> np.ndarray:
    """Others come once each."""
    cohorts = [[update(f"other-{place}", OTHERS[place % 5].delta)] for place in range(ROUNDS)]
    return audited_training(audited, ENGINE.layers, state, cohorts, canaries, often)


def by_training(audited: Algorithm, state: ServerState, canaries: Canaries, often: int = OFTEN) -> Scored:
    return canaries.told(in_the_first(often, ROUNDS) @ rows_of(audited, state, canaries, often))


def correlated(noise: float, participations: int = OFTEN) -> CorrelatedGaussian:
    return CorrelatedGaussian(
        norm=1.0, noise_multiplier=noise, rounds=ROUNDS, participations=participations, seeded=True
    )


def draws(original: Callable[..., Any], left: float) -> Callable[..., Any]:
    """Of what is told how to draw."""
    return lambda vector, deviation, draw: original(vector, deviation, lambda size: left * draw(size))


def drawn_whole(original: Callable[..., Any], left: float) -> Callable[..., Any]:
    return lambda *given: np.rint(left * original(*given)).astype(np.int64)


def drawn_real(original: Callable[..., Any], left: float) -> Callable[..., Any]:
    return lambda *given: left * original(*given)


MECHANISMS = {
    "central_gaussian": Mechanism(
        lambda noise: CentralGaussian(norm=1.0, noise_multiplier=noise, seeded=True),
        by_round,
        (noising, "with_noise", draws),
    ),
    "adaptive_gaussian": Mechanism(
        lambda noise: AdaptiveGaussian(norm=1.0, noise_multiplier=noise, seeded=True),
        by_adapted_round,
        (adaptive, "with_noise", draws),
    ),
    "local_gaussian": Mechanism(
        lambda noise: LocalGaussian(norm=1.0, noise_multiplier=noise, seeded=True),
        by_message,
        (local_noise, "with_noise", draws),
    ),
    "distributed_skellam": Mechanism(
        lambda noise: DistributedSkellam(norm=1.0, noise_multiplier=noise, least=COUNT, seeded=True),
        by_sum,
        (DistributedSkellam, "_noise", drawn_whole),
        (distributed_noise, "in_steps", lambda vector, norm, units: np.trunc(vector / norm * units).astype(np.int64)),
    ),
    "correlated_gaussian": Mechanism(correlated, by_training, (CorrelatedGaussian, "_sum", drawn_real)),
}
WITHOUT_MEMORY = sorted(MECHANISMS.keys() - {"correlated_gaussian"})
"""Those whose rounds are one release each."""

every = pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)


def scored(mechanism: Mechanism, norm: float = 1.0, trainings: int = TRAININGS) -> Scored:
    """Of canaries of such a norm, of whom 250 share a training."""
    audited, found = algorithm(mechanism.made(1.0)), []
    for place in range(trainings):
        one = audited.model_copy(update={"seed": place})
        found.append(mechanism.attack(one, initial_state(one, ENGINE, COUNT), drawn(place)._replace(norm=norm)))
    return together(found)


def claim(mechanism: Mechanism) -> float:
    return epsilon([SelfComposed(algorithm(mechanism.made(1.0)).release, 1)], DELTA).best


def weaken(monkeypatch: pytest.MonkeyPatch, mechanism: Mechanism, left: float) -> None:
    where, name, broken = mechanism.noise
    monkeypatch.setattr(where, name, broken(getattr(where, name), left))


def test_no_noise_goes_without_an_audit() -> None:
    kinds = get_args(get_args(AnyTransform)[0])
    noising = {kind.model_fields["kind"].default for kind in kinds if kind.noised_by is not Transform.noised_by}
    assert noising == set(MECHANISMS)


@every
@pytest.mark.parametrize("norm", [1.0, 10.0])
def test_nothing_is_told_beyond_the_claim_and_nothing_is_overlooked(mechanism, norm) -> None:
    found = scored(mechanism, norm=norm)
    assert 0.9 < min(bounds(found)) <= max(bounds(found)) <= claim(mechanism)
    assert 1.0 <= noise_at_most(found) < 1.35


@every
def test_no_noise_is_caught(mechanism, monkeypatch) -> None:
    weaken(monkeypatch, mechanism, 0.0)
    assert min(bounds(scored(mechanism))) > claim(mechanism)


@every
def test_a_quarter_too_little_noise_is_caught(mechanism, monkeypatch) -> None:
    weaken(monkeypatch, mechanism, 0.75)
    assert noise_at_most(scored(mechanism, norm=10.0)) < 1.0


@every
def test_updates_that_are_not_clipped_are_caught(mechanism, monkeypatch) -> None:
    monkeypatch.setattr(*mechanism.clip)
    assert min(bounds(scored(mechanism, norm=10.0))) > claim(mechanism)


@every
def test_updates_twice_too_large_are_caught(mechanism, monkeypatch) -> None:
    monkeypatch.setattr(*mechanism.clip)
    assert noise_at_most(scored(mechanism, norm=2.0)) < 1.0


@every
def test_noise_of_the_operating_system_hides_as_much(mechanism) -> None:
    def made(noise: float) -> Transform:
        return mechanism.made(noise).model_copy(update={"seeded": False}).keyed(bytes(32))

    found = bounds(scored(mechanism._replace(made=made)))
    assert 0.3 < min(found) <= max(found) <= claim(mechanism)


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_noise_that_another_round_draws_again_is_caught(name, monkeypatch) -> None:
    """Of two rounds, one of them without canaries: the difference has the noise of both, √2 of one, or none."""
    mechanism = MECHANISMS[name]

    def by_difference(audited: Algorithm, state: ServerState, canaries: Canaries) -> Scored:
        nobody = canaries._replace(included=np.zeros_like(canaries.included))
        released = mechanism.attack(audited, state, canaries).scores
        other = mechanism.attack(audited, state._replace(round=10), nobody).scores
        return Scored(released - other, canaries.included)

    twice = mechanism._replace(attack=by_difference)
    assert noise_at_most(scored(twice)) > 1.4
    monkeypatch.setattr(onion, "generator", lambda seed, _, purpose, client="": generator(seed, 0, purpose, client))
    assert min(bounds(scored(twice))) > claim(mechanism)


def test_a_message_that_hides_in_a_sum_hides_little_by_itself() -> None:
    """It carries its part of the noise alone."""
    skellam = MECHANISMS["distributed_skellam"]
    assert min(bounds(scored(skellam._replace(attack=by_message)))) > claim(skellam)


def test_a_sum_of_fewer_messages_than_carry_the_noise_is_refused_and_caught_where_it_is_not(monkeypatch) -> None:
    skellam = MECHANISMS["distributed_skellam"]
    parts = skellam._replace(made=lambda noise: skellam.made(noise).model_copy(update={"least": 2 * COUNT}))
    with pytest.raises(TrainingError, match="250 updates carry too little noise, it is sized for at least 500"):
        scored(parts)
    monkeypatch.setattr(rounds, "_require_survivors", lambda *_: None)
    assert noise_at_most(scored(parts)) < 1.0


@pytest.mark.slow
@every
def test_a_tenth_too_little_noise_is_caught_by_32000_canaries(mechanism, monkeypatch) -> None:
    assert 1.0 <= noise_at_most(scored(mechanism, norm=10.0, trainings=128)) < 1.1
    weaken(monkeypatch, mechanism, 0.9)
    assert noise_at_most(scored(mechanism, norm=10.0, trainings=128)) < 1.0
