"""The engine's training against descent written by hand, and against Keras' own ``fit``."""

from collections.abc import Callable
from functools import cache

import keras
import numpy as np
import pytest

from federated.component import Vector
from federated.data import Split
from federated.engine import Fitted
from federated.local_optimizers import Adam, AnyLocalOptimizer, Sgd
from federated.local_training import LocalTraining
from models.architecture import Model, output_units
from models.keras_engine import KerasEngine
from models.specs import Cnn, CustomModel, Linear, Logistic, Mlp
from tests.models.samples import batches, classified, fill, flat, orders, valued, weights

ROWS, FEATURES, CLASSES, SEED = 10, 3, 3, 5
BATCH_SIZES = [None, 1, 4, 5, 10, 64]  # all rows; one; a partial last one; even; exact; too large

Gradient = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray]]


def squared_error(params: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Σ(xw + b - y)², and the gradient of its mean."""
    design = np.column_stack([x, np.ones(len(x))])
    residual = design @ params - y
    return float(residual @ residual), 2 * design.T @ residual / len(x)


def binary_cross_entropy(params: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """-Σ(y log p + (1 - y) log(1 - p)), and the gradient of its mean."""
    design = np.column_stack([x, np.ones(len(x))])
    chance = 1 / (1 + np.exp(-design @ params))
    loss = -np.sum(y * np.log(chance) + (1 - y) * np.log(1 - chance))
    return float(loss), design.T @ (chance - y) / len(x)


def by_hand(gradient: Gradient, params: Vector, data: Split, work: LocalTraining) -> tuple[np.ndarray, float]:
    """Stochastic gradient descent in float64; also the last epoch's mean loss."""
    current, total = params.astype(np.float64), 0.0
    for epoch in batches(len(data), work, SEED):
        total = 0.0
        for batch in epoch:
            loss, slope = gradient(current, data.x[batch], data.y[batch])
            current = current - work.optimizer.learning_rate * slope
            total += loss
    return current, total / len(data)


@cache
def engine(spec: Model, classes: int | None) -> KerasEngine:
    """One for all tests, so that each loop is traced once."""
    return KerasEngine(spec, (FEATURES,), classes)


def trained(spec: Model, classes: int | None, data: Split, work: LocalTraining) -> Fitted:
    one = engine(spec, classes)
    return one.fit(weights(one.size), data, work, np.random.default_rng(SEED))


HAND_WRITTEN = [
    pytest.param(Linear(), None, valued(ROWS, FEATURES), squared_error, id="linear"),
    pytest.param(Logistic(), 2, classified(ROWS, FEATURES, 2), binary_cross_entropy, id="logistic"),
]


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize(("spec", "classes", "data", "gradient"), HAND_WRITTEN)
def test_training_is_descent_written_by_hand(spec, classes, data, gradient, batch_size):
    work = LocalTraining(epochs=3, batch_size=batch_size, optimizer=Sgd(learning_rate=0.05))
    fitted = trained(spec, classes, data, work)
    expected, loss = by_hand(gradient, weights(FEATURES + 1), data, work)
    np.testing.assert_allclose(fitted.params, expected, rtol=0, atol=1e-6)
    assert fitted.metrics["train_loss"] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("spec", "classes", "data", "gradient"), HAND_WRITTEN)
def test_no_batch_size_is_one_step_an_epoch_on_all_rows(spec, classes, data, gradient):
    work = LocalTraining(epochs=1, batch_size=None, optimizer=Sgd(learning_rate=0.05))
    start = weights(FEATURES + 1)
    _, slope = gradient(start.astype(np.float64), data.x, data.y)
    found = trained(spec, classes, data, work).params
    np.testing.assert_allclose(found, start - 0.05 * slope, rtol=0, atol=1e-6)


def test_a_partial_last_batch_is_not_padded():
    """Its mean is over its own 2 rows: padded to 4, the step would be half as long."""
    data = valued(6, FEATURES)
    work = LocalTraining(epochs=1, batch_size=4, optimizer=Sgd(learning_rate=0.05))
    first, last = batches(6, work, SEED)[0]
    current = weights(FEATURES + 1).astype(np.float64)
    for batch in (first, last):
        before = current
        current = current - 0.05 * squared_error(current, data.x[batch], data.y[batch])[1]
    assert len(last) == 2
    padded = before + (current - before) / 2
    found = trained(Linear(), None, data, work).params
    np.testing.assert_allclose(found, current, rtol=0, atol=1e-5)
    assert np.abs(found - padded).max() > 1e-3


def test_one_row_is_enough_to_train_on():
    data = valued(1, FEATURES)
    work = LocalTraining(epochs=2, batch_size=4, optimizer=Sgd(learning_rate=0.05))
    expected, _ = by_hand(squared_error, weights(FEATURES + 1), data, work)
    found = trained(Linear(), None, data, work).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_training_leaves_its_arguments_as_they_were():
    data, start = valued(ROWS, FEATURES), weights(FEATURES + 1)
    kept = [start.copy(), data.x.copy(), data.y.copy()]
    engine(Linear(), None).fit(start, data, LocalTraining(), np.random.default_rng(SEED))
    for now, before in zip([start, data.x, data.y], kept, strict=True):
        np.testing.assert_array_equal(now, before)


def regularised(inputs, classes):
    """Penalties, and moving statistics between trainable weights."""
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.Dense(4, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dense(output_units(classes), bias_regularizer=keras.regularizers.L1(0.1)),
        ]
    )


def keras_fit(model: keras.Model, loss: keras.Loss, start: Vector, data: Split, work: LocalTraining) -> Vector:
    """``model.fit`` on the same batches: an epoch at a time, on rows in the epoch's order."""
    fill(model, start)
    settings = work.optimizer.model_dump(exclude={"kind"})
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[work.optimizer.kind]
    model.compile(optimizer(**settings), loss, jit_compile=False)
    for order in orders(len(data), work.epochs, SEED):
        model.fit(data.x[order], data.y[order], batch_size=work.batch_size, shuffle=False, verbose=0)
    return flat(model)


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(Sgd(learning_rate=0.05), id="sgd"),
        pytest.param(Sgd(learning_rate=0.05, momentum=0.9, nesterov=True), id="momentum"),
        pytest.param(Adam(learning_rate=0.01), id="adam"),
    ],
)
def test_training_a_multilayer_perceptron_is_keras_fit(optimizer: AnyLocalOptimizer):
    spec, data = Mlp(hidden=(8, 4)), classified(ROWS, FEATURES, CLASSES)
    work = LocalTraining(epochs=3, batch_size=4, optimizer=optimizer)
    start = weights(engine(spec, CLASSES).size)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = keras_fit(spec.build((FEATURES,), CLASSES), loss, start, data, work)
    found = trained(spec, CLASSES, data, work).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(expected - start).max() > 1e-2


def test_training_a_convolutional_network_is_keras_fit():
    spec, inputs = Cnn(filters=(4, 8), hidden=16), (12, 12, 1)
    rng = np.random.default_rng(0)
    data = Split(rng.random((20, *inputs), dtype=np.float32), rng.integers(0, CLASSES, 20).astype(np.int32))
    work = LocalTraining(epochs=2, batch_size=5, optimizer=Sgd(learning_rate=0.05))
    one = KerasEngine(spec, inputs, CLASSES)
    start = one.init(3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = keras_fit(spec.build(inputs, CLASSES), loss, start, data, work)
    found = one.fit(start, data, work, np.random.default_rng(SEED)).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.abs(expected - start).max() > 1e-2


def test_training_with_penalties_and_batch_norm_is_keras_fit():
    spec = CustomModel(target=f"{__name__}:regularised")
    data = valued(ROWS, FEATURES)
    work = LocalTraining(epochs=2, batch_size=5, optimizer=Sgd(learning_rate=0.05))
    one = KerasEngine(spec, (FEATURES,), None)
    start = weights(one.size)
    start[-4:] = np.abs(start[-4:])  # moving variances
    expected = keras_fit(regularised((FEATURES,), None), keras.losses.MeanSquaredError(), start, data, work)
    found = one.fit(start, data, work, np.random.default_rng(SEED)).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
