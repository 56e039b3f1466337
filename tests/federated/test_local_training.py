"""How long clients train, and what their steps are worth."""

import numpy as np
import pytest
from pydantic import ValidationError

from federated.algorithm import Algorithm
from federated.local_optimizers import Adam, CustomOptimizer, Sgd
from federated.local_training import LocalTraining
from federated.work import Asked, Partial, PerClient, TimeBudget
from tests.federated.families import WORK

ASKED = Asked(client="a", steps=12, epoch=4)
each_policy = pytest.mark.parametrize("work", WORK, ids=repr)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps"), [(10, 4, 6), (10, None, 2), (10, 64, 2), (8, 4, 4), (1, 4, 2)]
)
def test_epochs_are_so_many_batches_the_last_of_which_may_be_smaller(rows, batch_size, steps):
    assert LocalTraining(epochs=2, batch_size=batch_size).asked(rows) == steps


def test_steps_take_the_place_of_epochs():
    assert LocalTraining(steps=7, batch_size=4).asked(100) == 7
    with pytest.raises(ValidationError, match="only one of epochs and steps may be set, got 2 and 7"):
        LocalTraining(steps=7, epochs=2)


def test_local_training_survives_the_journey_through_json():
    for local in (LocalTraining(steps=7), LocalTraining(epochs=3), LocalTraining()):
        assert LocalTraining.model_validate_json(local.model_dump_json()) == local


@each_policy
def test_every_client_does_at_least_one_step_and_the_same_again(work):
    for seed in range(50):
        steps = work.steps(ASKED, rng(seed))
        assert steps >= 1
        assert steps == work.steps(ASKED, rng(seed))


def test_partial_work_cuts_the_share_of_stragglers_short():
    done = np.array([Partial(stragglers=0.5).steps(ASKED, rng(seed)) for seed in range(4000)])
    assert set(done) == set(range(1, 13))
    assert np.mean(done < 12) == pytest.approx(0.5 * 11 / 12, abs=0.03)
    assert {Partial(stragglers=0).steps(ASKED, rng(seed)) for seed in range(50)} == {12}


def test_epochs_by_client_are_rounded_to_steps():
    work = PerClient(epochs={"a": 0.6, "b": 0.01, "c": 5})
    done = [work.steps(ASKED.model_copy(update={"client": name}), rng()) for name in "abcd"]
    assert done == [2, 1, 20, 12]


def test_a_time_budget_goes_by_the_speed_of_the_client():
    work = TimeBudget(seconds=2.0, steps_per_second=3.0, clients={"slow": 0.1, "fast": 100})
    done = [work.steps(ASKED.model_copy(update={"client": name}), rng()) for name in ("slow", "other", "fast")]
    assert done == [1, 6, 12]
    assert TimeBudget(seconds=0.29, steps_per_second=100).steps(ASKED.model_copy(update={"steps": 99}), rng()) == 29


def walked(sgd: Sgd, steps: int, factor: float, proximal: float) -> float:
    """Keras' update rule for a gradient of 1, in units of the learning rate."""
    rate = sgd.learning_rate * factor
    weight = velocity = 0.0
    for _ in range(steps):
        gradient = 1.0 + proximal * weight
        velocity = sgd.momentum * velocity - rate * gradient
        weight += sgd.momentum * velocity - rate * gradient if sgd.nesterov else velocity
    return -weight / rate


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("proximal", [0.0, 2.0])
def test_local_steps_are_how_far_a_gradient_of_1_would_go(momentum, nesterov, proximal):
    local = LocalTraining(optimizer=Sgd(learning_rate=0.05, momentum=momentum, nesterov=nesterov))
    expected = walked(local.optimizer, 9, 0.5, proximal)
    assert local.worth(9, 0.5, proximal) == pytest.approx(expected)


def test_local_steps_are_those_of_the_paper():
    """Wang et al. 2020, section 4.1: τ for SGD, with momentum ρ (τ - ρ(1 - ρ^τ)/(1 - ρ))/(1 - ρ), and FedProx's."""
    assert LocalTraining(optimizer=Sgd(learning_rate=0.1)).worth(9, 1.0, 0.0) == 9
    momentum = LocalTraining(optimizer=Sgd(learning_rate=0.1, momentum=0.9)).worth(9, 1.0, 0.0)
    assert momentum == pytest.approx((9 - 0.9 * (1 - 0.9**9) / 0.1) / 0.1)
    proximal = LocalTraining(optimizer=Sgd(learning_rate=0.1)).worth(9, 1.0, 2.0)
    assert proximal == pytest.approx((1 - (1 - 0.2) ** 9) / 0.2)


def test_steps_of_other_optimizers_are_counted():
    for optimizer in (Adam(), CustomOptimizer(target="package.module:Optimizer")):
        assert LocalTraining(optimizer=optimizer).worth(9, 0.5, 1.0) == 9


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (
            {"correction": {"kind": "scaffold"}, "local": {"optimizer": {"kind": "adam"}}},
            "needs plain gradient descent",
        ),
        (
            {"correction": {"kind": "scaffold"}, "local": {"optimizer": {"kind": "sgd", "momentum": 0.9}}},
            "needs plain gradient descent",
        ),
        ({"correction": {"kind": "scaffold"}, "local": {"clip_examples": 1.0}}, "needs plain gradient descent"),
        ({"rule": {"kind": "fednova"}, "local": {"optimizer": {"kind": "adam"}}}, "fednova needs the optimizer sgd"),
        (
            {"rule": {"kind": "fednova"}, "local": {"optimizer": {"kind": "sgd", "weight_decay": 0.1}}},
            "fednova needs the optimizer sgd",
        ),
        (
            {
                "rule": {"kind": "fednova"},
                "correction": {"kind": "fedprox", "mu": 4},
                "local": {"optimizer": {"kind": "sgd", "learning_rate": 0.5}},
            },
            "fednova cannot count steps that overshoot",
        ),
        (
            {"correction": {"kind": "feddyn"}, "transforms": [{"kind": "clip", "norm": 1}]},
            "feddyn takes no transforms",
        ),
    ],
)
def test_mixes_whose_arithmetic_does_not_hold_are_refused(parts, reason):
    with pytest.raises(ValidationError, match=reason):
        Algorithm.model_validate(parts)


def test_fednova_takes_momentum_and_a_proximal_term():
    local = {"optimizer": {"kind": "sgd", "momentum": 0.9}}
    Algorithm.model_validate({"rule": {"kind": "fednova"}, "correction": {"kind": "fedprox", "mu": 1}, "local": local})
