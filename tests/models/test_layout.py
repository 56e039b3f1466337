"""Where a model's weights lie in the flat vector, and what training does to each part of it."""

import random

import keras
import numpy as np
import pytest

from federated.component import Vector
from federated.data import Split
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.layout import Layout
from models.specs import CustomModel, Linear, Logistic, Mlp
from tests.models.samples import classified, fill, flat, valued, weights

FEATURES, CLASSES, WIDTH = 3, 3, 4
MOMENTUM = 0.9


def mixed(inputs, classes):
    """Weights that train, that move and that stay, with seeds in between, in no helpful order."""
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.BatchNormalization(momentum=MOMENTUM),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(WIDTH, trainable=False, kernel_initializer="ones"),
            keras.layers.GaussianNoise(0.1),
            keras.layers.BatchNormalization(momentum=MOMENTUM),
            keras.layers.Dense(output_units(classes)),
        ]
    )


def normalised(inputs, classes):
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.BatchNormalization(momentum=MOMENTUM),
            keras.layers.Dense(output_units(classes)),
        ]
    )


def forgetful(inputs, classes):
    """Drops inputs: a weight whose input was dropped gets no gradient."""
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(output_units(classes), use_bias=False),
        ]
    )


def twice_forgetful(inputs, classes):
    rows = keras.Input(inputs)
    branches = [keras.layers.Dense(1, use_bias=False)(keras.layers.Dropout(0.5)(rows)) for _ in range(2)]
    return keras.Model(rows, keras.layers.Add()(branches))


def custom(name: str) -> CustomModel:
    return CustomModel(target=f"{__name__}:{name}")


SPECS = [
    pytest.param(Linear(), None, id="linear"),
    pytest.param(Logistic(), 2, id="logistic"),
    pytest.param(Mlp(hidden=(5, 4)), CLASSES, id="mlp"),
    pytest.param(custom("mixed"), CLASSES, id="mixed"),
]


@pytest.mark.parametrize(("spec", "classes"), SPECS)
def test_the_vector_holds_what_keras_counts(spec, classes):
    model = spec.build((FEATURES,), classes)
    engine = KerasEngine(spec, (FEATURES,), classes)
    assert engine.size == model.count_params() == engine.init(0).size
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert engine.trainable == trainable


@pytest.mark.parametrize(("spec", "classes"), SPECS)
def test_trainable_weights_come_first_in_the_order_of_keras(spec, classes):
    model = spec.build((FEATURES,), classes)
    layout, vector = Layout(model), weights(model.count_params())
    fill(model, vector)
    np.testing.assert_array_equal(layout.read(model), vector)


@pytest.mark.parametrize(("spec", "classes"), SPECS)
def test_a_vector_written_into_a_model_is_read_back(spec, classes):
    model = spec.build((FEATURES,), classes)
    layout, vector = Layout(model), weights(model.count_params())
    layout.write(model, vector)
    np.testing.assert_array_equal(flat(model), vector)
    assert layout.read(model).dtype == np.float32


def test_initial_moving_statistics_are_the_tail():
    engine = KerasEngine(custom("normalised"), (FEATURES,), CLASSES)
    tail = engine.init(0)[engine.trainable :]
    np.testing.assert_array_equal(tail, [0] * FEATURES + [1] * FEATURES)
    assert engine.size - engine.trainable == 2 * FEATURES


def test_training_moves_the_statistics_towards_those_of_the_batch():
    engine = KerasEngine(custom("normalised"), (FEATURES,), CLASSES)
    data = classified(20, FEATURES, CLASSES)
    work = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=0.1))
    trained = engine.fit(engine.init(0), data, work, np.random.default_rng(0)).params
    mean, variance = np.split(trained[engine.trainable :], 2)
    np.testing.assert_allclose(mean, (1 - MOMENTUM) * data.x.mean(axis=0), atol=1e-6)
    expected = MOMENTUM + (1 - MOMENTUM) * data.x.var(axis=0)
    np.testing.assert_allclose(variance, expected, atol=1e-6)


def test_scores_use_the_moving_statistics_and_not_the_rows_scored():
    engine = KerasEngine(custom("normalised"), (FEATURES,), CLASSES)
    data, params = classified(20, FEATURES, CLASSES), weights(engine.size)
    params[-FEATURES:] = np.abs(params[-FEATURES:])
    alone = [engine.score(params, data.take(np.array([row])))["loss"][0] for row in range(20)]
    np.testing.assert_allclose(engine.score(params, data)["loss"], alone, atol=1e-5)


def test_weights_that_a_layer_freezes_stay_and_all_others_move():
    spec = custom("mixed")
    engine = KerasEngine(spec, (FEATURES,), CLASSES)
    work = LocalTraining(epochs=2, batch_size=7, optimizer=Sgd(learning_rate=0.1))
    model = spec.build((FEATURES,), CLASSES)
    before = engine.init(3)
    data = classified(20, FEATURES, CLASSES)
    trained = engine.fit(before, data, work, np.random.default_rng(0)).params
    fill(model, trained)
    frozen = model.layers[2]
    np.testing.assert_array_equal(frozen.kernel.numpy(), np.ones((FEATURES, WIDTH)))
    np.testing.assert_array_equal(frozen.bias.numpy(), np.zeros(WIDTH))
    stayed = int(np.sum(trained == before))
    assert stayed == frozen.count_params()


def dropped(epochs: int, seed: int) -> Vector:
    """What training changed on one row of ones; every step leaves about half of it out."""
    engine = KerasEngine(custom("forgetful"), (64,), None)
    row = Split(np.ones((1, 64), np.float32), np.full(1, 100, np.float32))
    work = LocalTraining(epochs=epochs, batch_size=1, optimizer=Sgd(learning_rate=1e-4))
    start = np.zeros(64, np.float32)
    return engine.fit(start, row, work, np.random.default_rng(seed)).params


def test_dropout_leaves_out_inputs_anew_at_every_step():
    once, often = np.count_nonzero(dropped(1, 0)), np.count_nonzero(dropped(8, 0))
    assert 16 < once < 48
    assert often > 56


def test_dropout_is_a_function_of_the_random_stream():
    assert dropped(3, 0).tobytes() == dropped(3, 0).tobytes()
    assert np.any((dropped(1, 0) == 0) != (dropped(1, 1) == 0))


def test_two_layers_do_not_leave_out_the_same():
    engine = KerasEngine(custom("twice_forgetful"), (64,), None)
    row = Split(np.ones((1, 64), np.float32), np.full(1, 100, np.float32))
    work = LocalTraining(optimizer=Sgd(learning_rate=1e-4))
    trained = engine.fit(np.zeros(128, np.float32), row, work, np.random.default_rng(0)).params
    first, second = np.split(trained == 0, 2)
    assert 16 < np.sum(first != second) < 48


def test_scores_are_without_dropout():
    engine = KerasEngine(custom("forgetful"), (64,), None)
    data, params = valued(9, 64), weights(64)
    scores = engine.score(params, data)
    outputs = data.x.astype(np.float64) @ params
    np.testing.assert_allclose(scores["loss"], (outputs - data.y) ** 2, rtol=1e-4)
    np.testing.assert_allclose(scores["mae"], np.abs(outputs - data.y), rtol=1e-4)


@pytest.mark.parametrize(("spec", "classes"), SPECS)
def test_initial_weights_are_a_function_of_the_seed(spec, classes):
    first, second = (KerasEngine(spec, (FEATURES,), classes) for _ in range(2))
    assert first.init(7).tobytes() == second.init(7).tobytes()
    assert first.init(7).tobytes() != first.init(8).tobytes()


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**70])
def test_any_seed_that_a_plan_may_have_gives_weights(seed):
    engine = KerasEngine(Logistic(), (FEATURES,), CLASSES)
    assert engine.init(seed).tobytes() == engine.init(seed).tobytes()
    assert engine.init(seed).tobytes() != engine.init(seed + 1).tobytes()
    assert engine.init(seed).tobytes() != engine.init(seed + 2**32).tobytes()


def test_drawing_initial_weights_leaves_global_randomness_as_it_was():
    engine = KerasEngine(Mlp(), (FEATURES,), CLASSES)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = [random.random(), *np.random.random(3)]  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    engine.init(5)
    assert [random.random(), *np.random.random(3)] == expected  # noqa: NPY002
