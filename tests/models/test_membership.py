"""Membership inference on models that real rounds made: rows are known by their loss, unless noise hides them."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from federated.algorithm import Algorithm
from federated.data import Client, Split, concatenate
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.loop import one_round
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.membership import Membership, by_loss
from federated.rounds import initial_state
from federated.rules import FixedMean
from federated.sources import Digits
from federated.transforms import CentralGaussian, Transform
from models.keras_engine import KerasEngine
from models.specs import Mlp

CLIENTS, MEMBERS, OTHERS, ROUNDS = 20, 60, 1200, 100
NOISE = CentralGaussian(norm=1.0, noise_multiplier=8.0, seeded=True)


class Trained(NamedTuple):
    """What an attacker finds, and how good the model is at digits it never saw."""

    found: Membership
    accuracy: float


class Rows(NamedTuple):
    """``members`` and ``others`` have wrong labels: to know one is to have learnt it by heart."""

    members: Split
    right: Split
    others: Split
    others_right: Split


@cache
def engine() -> KerasEngine:
    return KerasEngine(Mlp(hidden=(128,)), (8, 8, 1), 10)


def drawn(seed: int) -> Rows:
    """537 digits with their labels, and 60 with another, to be trained on; 1,200 to compare with."""
    rows, rng = Digits().load().rows, np.random.default_rng(seed)
    right = Split(rows.x / np.float32(16), rows.y).take(rng.permutation(len(rows)))
    wrong = Split(right.x, ((right.y + rng.integers(1, 10, len(rows))) % 10).astype(np.int32))
    members, others, rest = np.split(np.arange(len(rows)), [MEMBERS, MEMBERS + OTHERS])
    return Rows(wrong.take(members), right.take(rest), wrong.take(others), right.take(others))


@cache
def trained(*transforms: Transform, seed: int = 0) -> Trained:
    """Ten steps of every client a round; three of its thirty rows are members that are attacked."""
    rows = drawn(seed)
    together = concatenate([rows.members, rows.right])
    none = together.take(np.arange(0))
    names = {f"c{place:02d}": np.arange(place, len(together), CLIENTS) for place in range(CLIENTS)}
    clients = {name: Client(name, together.take(own), none) for name, own in names.items()}
    algorithm = Algorithm(
        seed=seed,
        local=LocalTraining(epochs=10, batch_size=None, optimizer=Sgd(learning_rate=1.0)),
        transforms=transforms,
        rule=FixedMean(expected=CLIENTS),
    )
    state = initial_state(algorithm, engine(), CLIENTS)
    for _ in range(ROUNDS):
        state = one_round(algorithm, engine(), state, clients, {}).state
    members, others = (engine().score(state.params, split)["loss"] for split in (rows.members, rows.others))
    known = engine().score(state.params, rows.others_right)["accuracy"]
    return Trained(by_loss(members, others), float(np.mean(known)))


def test_members_of_an_overfitted_model_are_found() -> None:
    plain = trained()
    assert plain.accuracy > 0.9
    assert plain.found.advantage > 0.7
    assert plain.found.true_positive_rates[0.01] > 0.1


def test_noise_hides_the_members() -> None:
    """At the price of most of what twenty clients could teach."""
    hidden = trained(NOISE)
    assert epsilon([SelfComposed(NOISE.release(1.0), ROUNDS)], 1e-5).best < 6
    assert hidden.found.advantage < 0.2
    assert hidden.found.true_positive_rates[0.01] < 0.06


@pytest.mark.slow
def test_over_several_trainings_noise_leaves_next_to_chance() -> None:
    """300 members in all: at 1 % false positives, chance alone finds some 3."""
    plain, hidden = ([trained(*layers, seed=seed).found for seed in range(5)] for layers in ((), (NOISE,)))
    assert np.mean([found.true_positive_rates[0.01] for found in plain]) > 0.2
    assert np.mean([found.true_positive_rates[0.01] for found in hidden]) < 0.03
    assert np.mean([found.true_positive_rates[0.001] for found in hidden]) < 0.01
    assert np.mean([found.advantage for found in plain]) > 0.8
    assert np.mean([found.advantage for found in hidden]) < 0.15


def test_rates_are_those_of_scikit_learns_curve() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.normal(0, 1, 300), rng.normal(1, 1, 2000)
    false, true, _ = roc_curve(
        np.repeat([1, 0], [300, 2000]), -np.concatenate([members, others]), drop_intermediate=False
    )
    found = by_loss(members, others, (0.0, 0.001, 0.01, 0.5))
    for rate, share in found.true_positive_rates.items():
        assert share == pytest.approx(np.max(true[false <= rate]))
    assert found.advantage == pytest.approx(np.max(true - false))


def test_no_more_others_are_taken_for_members_than_wanted() -> None:
    others = np.arange(1000.0)
    found = by_loss(np.array([0.5, 5.5, 9.5, 10.5, 2000.0]), others, (0.001, 0.01))
    assert found.true_positive_rates == {0.001: 0.2, 0.01: 0.6}


def test_equal_losses_tell_nothing() -> None:
    """Losses that are rounded to zero, too: neither side of a threshold."""
    assert by_loss(np.zeros(10), np.zeros(1000)) == Membership({0.001: 0.0, 0.01: 0.0}, 0.0)


def test_an_infinite_loss_is_a_loss() -> None:
    assert by_loss([0.0], [math.inf] * 10, (0.5,)) == Membership({0.5: 1.0}, 1.0)


@pytest.mark.parametrize(
    ("members", "others", "rates", "said"),
    [
        ([], [1.0], (0.01,), "members: expected one loss or more"),
        ([1.0], [], (0.01,), "others: expected one loss or more"),
        ([math.nan], [1.0], (0.01,), "members: .*none of them NaN"),
        ([1.0], [1.0], (1.0,), "false positive rates"),
        ([1.0], [1.0], (-0.1,), "false positive rates"),
    ],
)
def test_what_is_no_attack_is_refused(members, others, rates, said) -> None:
    with pytest.raises(ValueError, match=said):
        by_loss(members, others, rates)
