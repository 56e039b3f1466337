"""A whole federated training in a plain loop, against pooled least squares."""

from __future__ import annotations

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.data import concatenate
from federated.evaluation import evaluate
from federated.federation import Federation
from federated.loop import one_round
from federated.rounds import (
    ServerState,
    initial_state,
)
from federated.rules import Mean
from federated.selectors import Uniform
from federated.stopping import Stop
from federated.transforms import Clip
from tests.fakes import FakeEngine, line_client, line_federation, plain_sgd


def train(algorithm, engine, federation: Federation, rounds: int) -> ServerState:
    state = initial_state(algorithm, engine, 4)
    for _ in range(rounds):
        state = one_round(algorithm, engine, state, federation.clients, {}).state
    return state


def pooled_least_squares(clients) -> np.ndarray:
    """(slope, intercept) of all training rows together."""
    rows = concatenate([client.train for client in clients])
    matrix = np.column_stack([rows.x[:, 0], np.ones(len(rows))]).astype(np.float64)
    return np.linalg.lstsq(matrix, rows.y.astype(np.float64))[0]


def test_full_batches_and_one_epoch_converge_to_pooled_least_squares() -> None:
    federation = line_federation()
    algorithm = Algorithm(local=plain_sgd(learning_rate=0.1))
    state = train(algorithm, FakeEngine(), federation, rounds=150)
    expected = pooled_least_squares(federation.clients.values())
    np.testing.assert_allclose(state.params, expected, rtol=1e-4)
    assert state.round == 150


@pytest.mark.parametrize(
    "algorithm",
    [
        Algorithm(local=plain_sgd(epochs=5, batch_size=8, learning_rate=0.02)),
        Algorithm(local=plain_sgd(epochs=3), rule=Mean()),
        Algorithm(local=plain_sgd(epochs=3), select=Uniform(cohort=2)),
        Algorithm(local=plain_sgd(epochs=3), transforms=(Clip(norm=0.2),)),
    ],
    ids=["several epochs", "mean", "two clients a round", "clipping"],
)
def test_iid_clients_come_near_pooled_least_squares_by_every_road(algorithm) -> None:
    federation = line_federation(points=200)
    state = train(algorithm, FakeEngine(statistics=2), federation, rounds=40)
    expected = pooled_least_squares(federation.clients.values())
    np.testing.assert_allclose(state.params[:2], expected, atol=0.05)


def test_one_round_of_full_batches_is_one_step_on_the_pooled_rows() -> None:
    engine, algorithm = FakeEngine(), Algorithm(local=plain_sgd())
    sizes = {"a": 4, "b": 30, "c": 11}
    clients = {n: line_client(n, rows, rows, slope=rows) for n, rows in sizes.items()}
    start = initial_state(algorithm, engine, 4)
    pooled = concatenate([client.train for client in clients.values()])
    alone = engine.fit(start.params, pooled, algorithm.local, np.random.default_rng(0))
    federated = one_round(algorithm, engine, start, clients, {}).state.params
    np.testing.assert_allclose(federated, alone.params, rtol=1e-5)


def test_the_same_seed_trains_the_same_bits_and_another_does_not() -> None:
    federation, engine = line_federation(clients=6), FakeEngine()
    local, choice = plain_sgd(batch_size=4), Uniform(cohort=3)
    first, again, other = (
        train(Algorithm(seed=s, local=local, select=choice), engine, federation, rounds=5).params for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_training_stops_at_its_target() -> None:
    federation, engine = line_federation(), FakeEngine()
    algorithm, stop = Algorithm(local=plain_sgd()), Stop(metric="loss", at_most=0.15)
    state, history = initial_state(algorithm, engine, 4), []
    while stop.reason(history, seconds=0.0) is None and state.round < 200:
        state = one_round(algorithm, engine, state, federation.clients, {}).state
        history.append(evaluate(engine, state.params, federation.validation))
    assert 3 < state.round < 200
    assert history[-1]["loss"] <= 0.15 < history[-2]["loss"]
