"""Membership inference on models that real rounds made: rows are known by their loss, unless noise hides the clients."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from federated.algorithm import Algorithm
from federated.data import Client, Split
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

CLIENTS, MEMBERS, OTHERS = 10, 60, 1600
NOISE = CentralGaussian(norm=1.0, noise_multiplier=8.0, seeded=True)


class Trained(NamedTuple):
    """What an attacker finds, and how many of the members the model knows."""

    found: Membership
    accuracy: float


@cache
def engine() -> KerasEngine:
    return KerasEngine(Mlp(hidden=(128,)), (8, 8, 1), 10)


def mislabelled(seed: int) -> Split:
    """Digits with labels that are all wrong: to know them is to have learnt them by heart."""
    rows, rng = Digits().load().rows, np.random.default_rng(seed)
    wrong = Split(rows.x / np.float32(16), ((rows.y + rng.integers(1, 10, len(rows))) % 10).astype(np.int32))
    return wrong.take(rng.permutation(len(rows)))


@cache
def trained(rounds: int, *transforms: Transform, seed: int = 0) -> Trained:
    data = mislabelled(seed)
    members, others = data.take(np.arange(MEMBERS)), data.take(np.arange(MEMBERS, MEMBERS + OTHERS))
    none = data.take(np.arange(0))
    clients = {
        f"c{place}": Client(f"c{place}", members.take(np.arange(place, MEMBERS, CLIENTS)), none)
        for place in range(CLIENTS)
    }
    algorithm = Algorithm(
        seed=seed,
        local=LocalTraining(epochs=20, batch_size=None, optimizer=Sgd(learning_rate=0.5)),
        transforms=transforms,
        rule=FixedMean(expected=CLIENTS),
    )
    state = initial_state(algorithm, engine(), CLIENTS)
    for _ in range(rounds):
        state = one_round(algorithm, engine(), state, clients, {}).state
    scores = engine().score(state.params, members)
    losses = engine().score(state.params, others)["loss"]
    return Trained(by_loss(scores["loss"], losses), float(np.mean(scores["accuracy"])))


def test_members_of_an_overfitted_model_are_found() -> None:
    """Ten clients of six rows each."""
    plain = trained(40)
    assert plain.accuracy > 0.95
    assert plain.found.advantage > 0.7
    assert plain.found.true_positive_rates[0.01] > 0.1


def test_noise_hides_the_members() -> None:
    """And the model: the noise that hides ten clients leaves nothing to learn from them."""
    hidden = trained(40, NOISE)
    assert epsilon([SelfComposed(NOISE.release(1.0), 40)], 1e-5).best < 4
    assert hidden.found.advantage < 0.25
    assert hidden.found.true_positive_rates[0.01] < 0.06


@pytest.mark.slow
def test_over_ten_trainings_noise_leaves_next_to_chance() -> None:
    """600 members in all: true positives at 1 % are some 6, not hundreds."""
    plain, hidden = ([trained(200, *layers, seed=seed).found for seed in range(10)] for layers in ((), (NOISE,)))
    assert np.mean([found.true_positive_rates[0.01] for found in plain]) > 0.25
    assert np.mean([found.true_positive_rates[0.001] for found in plain]) > 0.03
    assert np.mean([found.true_positive_rates[0.01] for found in hidden]) < 0.03
    assert np.mean([found.true_positive_rates[0.001] for found in hidden]) < 0.01
    assert np.mean([found.advantage for found in plain]) > 0.8
    assert np.mean([found.advantage for found in hidden]) < 0.2


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
