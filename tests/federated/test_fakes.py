"""The laws of an engine, over the fake with and without moving statistics."""

from __future__ import annotations

import numpy as np
import pytest

from federated.engine import AS_ASKED, SMALLER_IS_BETTER
from federated.local_optimizers import Adam, CustomOptimizer, Sgd
from federated.local_training import LocalTraining
from tests.fakes import FakeEngine, line_client, line_split, plain_sgd

each_engine = pytest.mark.parametrize(
    "engine", [FakeEngine(), FakeEngine(statistics=3)], ids=["weights only", "moving statistics"]
)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@each_engine
def test_initial_weights_are_a_function_of_the_seed_alone(engine) -> None:
    params = engine.init(5)
    assert params.shape == (engine.size,)
    assert params.dtype == np.float32
    np.testing.assert_array_equal(params, engine.init(5))
    assert not np.array_equal(params, engine.init(6))


@each_engine
def test_local_training_is_a_function_of_its_arguments_alone(engine) -> None:
    params, data, work = engine.init(0), line_split(10), plain_sgd(epochs=2, batch_size=3)
    before = params.copy()
    first, again = (engine.fit(params, data, work, rng(1)) for _ in range(2))
    np.testing.assert_array_equal(first.params, again.params)
    np.testing.assert_array_equal(params, before)
    assert first.params.dtype == np.float32
    assert first.metrics == again.metrics
    assert not np.array_equal(first.params, engine.fit(params, data, work, rng(2)).params)


@each_engine
def test_a_cohort_trains_as_its_clients_would_one_by_one(engine) -> None:
    clients = [line_client(name, rows, seed) for seed, (name, rows) in enumerate(zip("abc", (5, 9, 7), strict=True))]
    params, work = engine.init(0), plain_sgd(batch_size=4)
    cohort = engine.fit_cohort(params, clients, work, [rng(seed) for seed in range(3)], [AS_ASKED] * 3)
    for seed, (client, fitted) in enumerate(zip(clients, cohort, strict=True)):
        alone = engine.fit(params, client.train, work, rng(seed))
        np.testing.assert_array_equal(fitted.params, alone.params)
        assert fitted.metrics == alone.metrics


@each_engine
def test_scores_are_known_numbers_an_example(engine) -> None:
    scores = engine.score(engine.init(0), line_split(9))
    assert "loss" in scores
    assert set(scores) <= set(SMALLER_IS_BETTER)
    assert {values.shape for values in scores.values()} == {(9,)}


@each_engine
def test_training_lowers_the_loss(engine) -> None:
    data, params = line_split(50), engine.init(0)
    fitted = engine.fit(params, data, plain_sgd(epochs=20), rng(0))
    before, after = (engine.score(p, data)["loss"].mean() for p in (params, fitted.params))
    assert after < before / 10


def test_the_fake_takes_the_gradient_step_of_least_squares() -> None:
    data, params = line_split(8), np.array([0.5, -0.25], np.float32)
    fitted = FakeEngine().fit(params, data, plain_sgd(learning_rate=0.1), rng(0))
    x, y = data.x[:, 0].astype(float), data.y.astype(float)
    errors = 0.5 * x - 0.25 - y
    expected = [0.5 - 0.1 * 2 * np.mean(errors * x), -0.25 - 0.1 * 2 * np.mean(errors)]
    np.testing.assert_allclose(fitted.params, expected, rtol=1e-5)
    assert fitted.metrics["train_loss"] == pytest.approx(np.mean(errors**2), rel=1e-5)


def test_the_fake_moves_its_statistics_and_no_score_reads_them() -> None:
    engine, data = FakeEngine(statistics=2), line_split(8)
    fitted = engine.fit(engine.init(0), data, plain_sgd(), rng(0)).params
    np.testing.assert_allclose(fitted[2:], 0.1 * data.y.mean() * np.array([1, 2]), rtol=1e-5)
    other = np.concatenate([fitted[:2], [9, 9]]).astype(np.float32)
    np.testing.assert_array_equal(engine.score(fitted, data)["loss"], engine.score(other, data)["loss"])


@pytest.mark.parametrize(
    "optimizer",
    [Adam(), Sgd(momentum=0.9), Sgd(clipnorm=1.0), CustomOptimizer(target="package.module:Optimizer")],
    ids=lambda optimizer: optimizer.kind,
)
def test_the_fake_refuses_an_optimizer_that_it_would_not_obey(optimizer) -> None:
    with pytest.raises(ValueError, match="plain SGD only"):
        FakeEngine().fit(np.zeros(2, np.float32), line_split(4), LocalTraining(optimizer=optimizer), rng(0))
