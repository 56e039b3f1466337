"""Server optimizers: laws over the family, and an oracle for each member."""

from __future__ import annotations

import json

import numpy as np
import pytest

from federated.errors import TrainingError
from federated.packing import pack, unpack
from federated.schedules import Constant, Steps
from federated.server_optimizers import ServerAdagrad, ServerAdam, ServerMomentum, ServerSgd, ServerYogi
from tests.federated.families import SERVER_OPTIMIZERS

PARAMS = np.array([0.5, -2.0, 1e3, 0.0], np.float32)
DELTA = np.array([1.0, -0.25, 3.0, 1e-3], np.float32)
DELTAS = np.random.default_rng(0).normal(size=(12, 4)) * [1.0, 0.1, 1e-3, 10.0]

each_optimizer = pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=repr)
each_rate = pytest.mark.parametrize("rate", [1.0, 0.3, 2.0])


def course(optimizer, deltas, params=PARAMS) -> list[np.ndarray]:
    """The model after every round."""
    state, models = optimizer.init(params), []
    for place, delta in enumerate(deltas):
        state, params, _ = optimizer.next(place + 1, state, params, np.asarray(delta, np.float32))
        models.append(params)
    return models


@each_optimizer
def test_a_zero_delta_is_no_step(optimizer) -> None:
    np.testing.assert_array_equal(course(optimizer, np.zeros((3, 4)))[-1], PARAMS)


@each_optimizer
def test_the_first_step_goes_the_way_of_the_delta(optimizer) -> None:
    step = optimizer.next(1, optimizer.init(PARAMS), PARAMS, DELTA).result - PARAMS
    np.testing.assert_array_equal(np.sign(step), np.sign(DELTA))


@each_optimizer
def test_a_step_is_float32_and_leaves_its_arguments_alone(optimizer) -> None:
    params, delta, state = PARAMS.copy(), DELTA.copy(), optimizer.init(PARAMS)
    before = pack(state)
    after, result, _ = optimizer.next(1, state, params, delta)
    assert result.dtype == np.float32
    assert {array.dtype for array in pack(after)[1].values()} <= {np.dtype(np.float32)}
    result[:] = 9
    np.testing.assert_array_equal(params, PARAMS)
    np.testing.assert_array_equal(delta, DELTA)
    np.testing.assert_equal(pack(state), before)


@each_optimizer
def test_a_state_that_was_stored_goes_on_where_it_was(optimizer) -> None:
    state, params = optimizer.init(PARAMS), PARAMS
    for place, delta in enumerate(DELTAS.astype(np.float32)):
        packed, arrays = pack(state)
        restored = unpack(json.loads(json.dumps(packed)), arrays, like=optimizer.init(PARAMS))
        expected = optimizer.next(place + 1, state, params, delta)
        np.testing.assert_array_equal(optimizer.next(place + 1, restored, params, delta).result, expected.result)
        state, params, _ = expected


@each_optimizer
def test_the_schedule_scales_the_step_of_its_round_and_nothing_else(optimizer) -> None:
    """The state is that of another schedule, and the step that of its factor."""
    steady = optimizer.model_copy(update={"schedule": Constant()})
    late = optimizer.model_copy(update={"schedule": Steps(at=(3,), factor_each=0.25)})
    zero = np.zeros(4, np.float32)
    states = [one.init(PARAMS) for one in (steady, late)]
    for place, delta in enumerate(DELTAS.astype(np.float32)):
        (one, plain, _), (other, scaled, _) = (
            optimizer.next(place + 1, state, zero, delta)
            for optimizer, state in zip((steady, late), states, strict=True)
        )
        np.testing.assert_allclose(scaled, plain * (1.0 if place < 2 else 0.25), rtol=1e-6)
        np.testing.assert_equal(pack(one), pack(other))
        states = [one, other]


@each_optimizer
def test_an_optimizer_of_no_weights_gives_none(optimizer) -> None:
    assert course(optimizer, np.zeros((2, 0)), np.zeros(0, np.float32))[-1].shape == (0,)


@each_rate
def test_sgd_adds_the_delta_times_the_learning_rate(rate) -> None:
    step = ServerSgd(learning_rate=rate).next(1, None, PARAMS, DELTA)
    expected = PARAMS.astype(np.float64) + rate * DELTA.astype(np.float64)
    np.testing.assert_allclose(step.result, expected, rtol=1e-6)


@each_rate
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_momentum_sums_past_deltas_each_older_one_less(rate, share) -> None:
    """In closed form: v after round t is the sum of β^(t - s) δ_s."""
    models = course(ServerMomentum(learning_rate=rate, momentum=share), DELTAS, np.zeros(4, np.float32))
    expected = np.zeros(4)
    for last, found in enumerate(models):
        expected = expected + rate * sum(share ** (last - s) * DELTAS[s] for s in range(last + 1))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_nesterovs_momentum_looks_one_step_ahead() -> None:
    """Its model is that of plain momentum, moved on by rate · β · v."""
    plain = course(ServerMomentum(learning_rate=0.5, momentum=0.9), DELTAS, np.zeros(4, np.float32))
    ahead = course(ServerMomentum(learning_rate=0.5, momentum=0.9, nesterov=True), DELTAS, np.zeros(4, np.float32))
    before = [np.zeros(4), *plain]
    expected = [model + 0.9 * (model - last) for model, last in zip(plain, before, strict=False)]
    np.testing.assert_allclose(ahead, expected, rtol=1e-4, atol=1e-5)


def reddi(kind: str, rate: float, beta_1: float, beta_2: float, tau: float) -> list[np.ndarray]:
    """Algorithm 2 of Reddi et al. 2021, number by number in Python's floats."""
    models, params = [], [0.0] * 4
    first, second = [0.0] * 4, [tau**2] * 4
    for delta in DELTAS:
        for j, d in enumerate(delta):
            first[j] = beta_1 * first[j] + (1 - beta_1) * d
            if kind == "adagrad":
                second[j] += d**2
            elif kind == "adam":
                second[j] = beta_2 * second[j] + (1 - beta_2) * d**2
            elif second[j] > d**2:
                second[j] -= (1 - beta_2) * d**2
            else:
                second[j] += (1 - beta_2) * d**2
            params[j] += rate * first[j] / (second[j] ** 0.5 + tau)
        models.append(np.array(params))
    return models


@pytest.mark.parametrize("tau", [1e-3, 0.1])
@pytest.mark.parametrize("beta_1", [0.0, 0.9])
@pytest.mark.parametrize("cls", [ServerAdagrad, ServerAdam, ServerYogi])
def test_adaptive_steps_are_those_of_the_papers_algorithm(cls, beta_1, tau) -> None:
    optimizer = cls(learning_rate=0.1, beta_1=beta_1, tau=tau)
    expected = reddi(optimizer.kind, 0.1, beta_1, getattr(optimizer, "beta_2", 0.0), tau)
    np.testing.assert_allclose(course(optimizer, DELTAS, np.zeros(4, np.float32)), expected, rtol=1e-4, atol=1e-6)


def test_the_defaults_are_the_papers() -> None:
    assert (ServerAdagrad().beta_1, ServerAdagrad().tau) == (0.0, 1e-3)
    for optimizer in (ServerAdam(), ServerYogi()):
        assert (optimizer.beta_1, optimizer.beta_2, optimizer.tau) == (0.9, 0.99, 1e-3)


@pytest.mark.parametrize("optimizer", [ServerAdagrad(), ServerAdam(), ServerYogi()], ids=repr)
def test_a_delta_whose_square_overflows_ends_the_training_instead_of_every_later_step(optimizer) -> None:
    with pytest.raises(TrainingError, match="round 7: the squares of the aggregate overflow; clip"):
        optimizer.next(7, optimizer.init(PARAMS), PARAMS, np.full(4, 1e20, np.float32))
