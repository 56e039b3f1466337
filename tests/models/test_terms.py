"""The terms of local training: how many steps, how fast, what is added to a gradient, and clipping by example."""

from functools import cache

import keras
import numpy as np
import pytest

from federated.data import Split
from federated.engine import AS_ASKED, Terms
from federated.errors import PlanError
from federated.local_optimizers import Adam, CustomOptimizer, Sgd
from federated.local_training import LocalTraining
from federated.schedules import Exponential
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.specs import Cnn, CustomModel, Gru, Linear, Logistic, Mlp
from tests.models.samples import batches, classified, valued, weights

ROWS, FEATURES, SEED, RATE = 10, 3, 5, 0.05
SGD = LocalTraining(batch_size=4, optimizer=Sgd(learning_rate=RATE))
each_compilation = pytest.mark.parametrize("compilation", ["graph", "xla", "vectorized"])
one_by_one = pytest.mark.parametrize("compilation", ["graph", "xla"])


@cache
def engine(spec, classes, compilation: str) -> KerasEngine:
    return KerasEngine(spec, (FEATURES,), classes, compilation)


def trained(one: KerasEngine, data: Split, work: LocalTraining, terms: Terms = AS_ASKED):
    return one.fit(weights(one.size), data, work, np.random.default_rng(SEED), terms)


def slopes(params: np.ndarray, data: Split, batch: np.ndarray) -> np.ndarray:
    """The gradient of each example's squared error, shape (batch, FEATURES + 1)."""
    design = np.column_stack([data.x[batch], np.ones(len(batch))]).astype(np.float64)
    return 2 * design * (design @ params - data.y[batch])[:, None]


def descended(data: Split, work: LocalTraining, steps: int, gradient) -> np.ndarray:
    """Descent by hand on the batches that the engine draws."""
    params = weights(FEATURES + 1).astype(np.float64)
    endless = [batch for epoch in batches(ROWS, work.model_copy(update={"epochs": 9}), SEED) for batch in epoch]
    for batch in endless[:steps]:
        params = params - RATE * gradient(params, slopes(params, data, batch))
    return params


@each_compilation
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_so_many_steps_are_taken_and_no_more(compilation, steps):
    data = valued(ROWS, FEATURES)
    found = trained(engine(Linear(), None, compilation), data, SGD, Terms(steps=steps))
    expected = descended(data, SGD, steps, lambda _, own: own.mean(axis=0))
    np.testing.assert_allclose(found.params, expected, atol=1e-5)


@each_compilation
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_loss_is_that_of_the_last_epochs_worth_of_steps(compilation, steps):
    """With a learning rate of next to nothing it is the loss of the rows in those steps."""
    data, work = valued(ROWS, FEATURES), SGD.model_copy(update={"optimizer": Sgd(learning_rate=1e-12)})
    found = trained(engine(Linear(), None, compilation), data, work, Terms(steps=steps))
    endless = [batch for epoch in batches(ROWS, work.model_copy(update={"epochs": 3}), SEED) for batch in epoch]
    rows = np.concatenate(endless[max(steps - 3, 0) : steps])
    design = np.column_stack([data.x, np.ones(ROWS)])
    losses = (design @ weights(FEATURES + 1) - data.y) ** 2
    assert found.metrics["train_loss"] == pytest.approx(losses[rows].mean(), rel=1e-5)


@each_compilation
def test_linear_and_proximal_terms_are_added_to_every_gradient(compilation):
    data, linear = valued(ROWS, FEATURES), np.array([0.5, -1.0, 2.0, 0.1], np.float32)
    start = weights(FEATURES + 1)
    terms = Terms(steps=5, linear=linear, proximal=0.7)
    found = trained(engine(Linear(), None, compilation), data, SGD, terms).params
    expected = descended(data, SGD, 5, lambda now, own: own.mean(axis=0) + linear + 0.7 * (now - start))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_compilation
@pytest.mark.parametrize("optimizer", [Sgd(learning_rate=RATE, momentum=0.9), Adam()])
def test_no_proximal_term_and_no_linear_one_change_no_bit(compilation, optimizer):
    """FedProx with mu = 0 is federated averaging."""
    one, data, work = (
        engine(Mlp(hidden=(4,)), 3, compilation),
        classified(ROWS, FEATURES, 3),
        LocalTraining(batch_size=4, epochs=2, optimizer=optimizer),
    )
    plain = trained(one, data, work)
    assert trained(one, data, work, Terms(proximal=0.0)).params.tobytes() == plain.params.tobytes()
    nothing = trained(one, data, work, Terms(linear=np.zeros(one.trainable, np.float32))).params
    np.testing.assert_allclose(nothing, plain.params, rtol=0, atol=1e-6)


@each_compilation
@pytest.mark.parametrize("optimizer", [Sgd, Adam])
def test_a_factor_multiplies_the_learning_rate(compilation, optimizer):
    one, data = engine(Mlp(hidden=(4,)), 3, compilation), classified(ROWS, FEATURES, 3)
    whole, half = (LocalTraining(batch_size=4, optimizer=optimizer(learning_rate=rate)) for rate in (0.04, 0.02))
    found = trained(one, data, whole, Terms(factor=0.5)).params
    np.testing.assert_allclose(found, trained(one, data, half).params, rtol=0, atol=1e-6)
    assert np.abs(found - trained(one, data, whole).params).max() > 1e-4


def scheduled(**options):
    return keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), **options)


def test_a_schedule_of_the_plan_beside_one_of_the_optimizer_is_refused():
    own = CustomOptimizer(target=f"{__name__}:scheduled")
    one = engine(Linear(), None, "graph")
    one.prepare(LocalTraining(optimizer=own))
    with pytest.raises(PlanError, match="the optimizer has a schedule of its own"):
        one.prepare(LocalTraining(optimizer=own, schedule=Exponential(decay=0.9)))


def clipped(norm: float):
    def gradient(_, own: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(own, axis=1, keepdims=True)
        return (own * np.minimum(1, norm / norms)).mean(axis=0)

    return gradient


@one_by_one
@pytest.mark.parametrize("norm", [0.01, 1.0, 1e6])
def test_every_examples_gradient_is_clipped_before_they_are_averaged(compilation, norm):
    data = valued(ROWS, FEATURES)
    work = SGD.model_copy(update={"clip_examples": norm})
    found = trained(engine(Linear(), None, compilation), data, work, Terms(steps=6)).params
    np.testing.assert_allclose(found, descended(data, work, 6, clipped(norm)), atol=1e-5)


@one_by_one
def test_a_step_with_clipped_examples_is_no_longer_than_the_norm(compilation):
    one, data = engine(Mlp(hidden=(8,)), 3, compilation), classified(ROWS, FEATURES, 3)
    work = LocalTraining(batch_size=4, steps=1, optimizer=Sgd(learning_rate=1.0), clip_examples=0.01)
    moved = trained(one, data, work).params - weights(one.size)
    assert 0 < np.linalg.norm(moved) <= 0.01 * (1 + 1e-4)


@pytest.mark.parametrize(
    ("spec", "inputs"), [(Cnn(filters=(2, 2), hidden=4), (8, 8, 1)), (Gru(units=3), (5,))], ids=["cnn", "gru"]
)
def test_a_norm_that_nothing_reaches_clips_nothing(spec, inputs):
    one = KerasEngine(spec, inputs, 3)
    rng = np.random.default_rng(0)
    data = Split(rng.normal(size=(6, *inputs)).astype(np.float32), rng.integers(0, 3, 6).astype(np.int32))
    work = LocalTraining(batch_size=3, optimizer=Sgd(learning_rate=RATE))
    start = one.init(0)
    free, bound = (
        one.fit(start, data, work.model_copy(update={"clip_examples": norm}), np.random.default_rng(1)).params
        for norm in (None, 1e6)
    )
    np.testing.assert_allclose(bound, free, rtol=0, atol=1e-5)


def dropping(inputs, classes):
    return keras.Sequential(
        [keras.Input(inputs), keras.layers.Dropout(0.5), keras.layers.Dense(output_units(classes), use_bias=False)]
    )


def test_dropout_of_clipped_examples_is_drawn_for_each_of_them():
    """Rows that are alike, one step: were all to drop the same, half of the weights would not move."""
    one = KerasEngine(CustomModel(target=f"{__name__}:dropping"), (64,), 2)
    data = Split(np.ones((32, 64), np.float32), np.ones(32, np.int32))
    work = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=1.0), clip_examples=10.0)
    moved = one.fit(np.zeros(64, np.float32), data, work, np.random.default_rng(0)).params
    assert np.mean(moved == 0) < 0.05
    assert len(np.unique(moved)) > 5


def normalised(inputs, classes):
    return keras.Sequential(
        [keras.Input(inputs), keras.layers.BatchNormalization(), keras.layers.Dense(output_units(classes))]
    )


def test_clipping_by_example_with_batch_normalisation_is_refused():
    one = KerasEngine(CustomModel(target=f"{__name__}:normalised"), (FEATURES,), 3)
    with pytest.raises(PlanError, match="batch normalisation mixes the examples"):
        one.prepare(LocalTraining(clip_examples=1.0))


def test_kinds_of_steps_are_compiled_once_each():
    one, data = KerasEngine(Logistic(), (FEATURES,), 3), classified(ROWS, FEATURES, 3)
    linear = np.ones(one.trainable, np.float32)
    for number in range(1, 6):
        for terms in (Terms(steps=number, factor=1 / number), Terms(steps=number, linear=linear * number)):
            trained(one, data, SGD, terms)
    counts = [loop._run.experimental_get_tracing_count() for loop in one._loops.values()]
    assert counts == [1, 1]
