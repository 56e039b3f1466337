"""Server optimizers: laws over the family, and an oracle for each member."""

from __future__ import annotations

import numpy as np
import pytest

from federated.server_optimizers import ServerSgd
from tests.federated.families import SERVER_OPTIMIZERS

PARAMS = np.array([0.5, -2.0, 1e3, 0.0], np.float32)
DELTA = np.array([1.0, -0.25, 3.0, 1e-3], np.float32)

each_optimizer = pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=repr)


@each_optimizer
def test_a_zero_delta_is_no_step(optimizer) -> None:
    state, params = optimizer.init(PARAMS), PARAMS
    for _ in range(3):
        state, params, _ = optimizer.next(state, params, np.zeros_like(PARAMS))
    np.testing.assert_array_equal(params, PARAMS)


@each_optimizer
def test_the_first_step_goes_the_way_of_the_delta(optimizer) -> None:
    step = optimizer.next(optimizer.init(PARAMS), PARAMS, DELTA).result - PARAMS
    np.testing.assert_array_equal(np.sign(step), np.sign(DELTA))


@each_optimizer
def test_a_step_is_float32_and_leaves_its_arguments_alone(optimizer) -> None:
    params, delta = PARAMS.copy(), DELTA.copy()
    result = optimizer.next(optimizer.init(params), params, delta).result
    assert result.dtype == np.float32
    result[:] = 9
    np.testing.assert_array_equal(params, PARAMS)
    np.testing.assert_array_equal(delta, DELTA)


@pytest.mark.parametrize("rate", [1.0, 0.3, 2.0])
def test_sgd_adds_the_delta_times_the_learning_rate(rate) -> None:
    step = ServerSgd(learning_rate=rate).next(None, PARAMS, DELTA)
    expected = PARAMS.astype(np.float64) + rate * DELTA.astype(np.float64)
    np.testing.assert_allclose(step.result, expected, rtol=1e-6)
