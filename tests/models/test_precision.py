"""Layers that compute in 16 bits while they train, and everything else in 32."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from federated.data import Split
from federated.errors import PlanError
from federated.local_optimizers import Adam, Sgd
from federated.local_training import LocalTraining
from federated.scaling import Affine
from models.architecture import Model, build_seeded, output_units
from models.gradients import MeanGradient
from models.keras_engine import KerasEngine
from models.layout import Layout
from models.objectives import objective
from models.precision import LOSS_SCALES
from models.served_model import ServedModel
from models.specs import Cnn, CustomModel, Gru, Linear, Mlp, Recommender, SavedModel

FEATURES, CLASSES = 6, 3
each_precision = pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
COMPUTES = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}
TOLERANCE = {"mixed_bfloat16": 0.02, "mixed_float16": 0.005}
SPECS: dict[str, tuple[Model, tuple[int, ...], str]] = {
    "mlp": (Mlp(hidden=(16,)), (FEATURES,), "graph"),
    "xla": (Mlp(hidden=(16,)), (FEATURES,), "xla"),
    "cnn": (Cnn(filters=(4, 4), hidden=8), (8, 8, 1), "graph"),
    "gru": (Gru(units=6), (FEATURES,), "graph"),
    "normalised": (CustomModel(target=f"{__name__}:normalised"), (FEATURES,), "graph"),
}
WORK = LocalTraining(epochs=10, batch_size=8, optimizer=Adam(learning_rate=0.01))


def normalised(inputs, classes):
    layers = [keras.layers.Dense(16, "relu"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input(inputs), *layers, keras.layers.Dense(output_units(classes))])


def in_float32(inputs, classes):
    return keras.Sequential([keras.Input(inputs), keras.layers.Dense(output_units(classes), dtype="float32")])


@cache
def engine(name: str, precision: str) -> KerasEngine:
    spec, inputs, how = SPECS[name]
    return KerasEngine(spec, inputs, CLASSES, how, precision=precision)


def separable(inputs: tuple[int, ...], rows: int = 60) -> Split:
    """Classes that show in the mean of a row's numbers."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, rows).astype(np.int32)
    x = rng.normal(size=(rows, *inputs)) * 0.5 + y.reshape(-1, *[1] * len(inputs)) - 1
    return Split(x.astype(np.float32), y)


def trained(name: str, precision: str):
    one = engine(name, precision)
    return one.fit(one.init(3), separable(SPECS[name][1]), WORK, np.random.default_rng(0))


@each_precision
@pytest.mark.parametrize("name", SPECS)
def test_it_trains_to_about_the_loss_of_float32_and_not_to_its_bits(name, precision):
    found, expected = trained(name, precision), trained(name, "float32")
    assert found.metrics["train_loss"] == pytest.approx(expected.metrics["train_loss"], abs=TOLERANCE[precision])
    assert not np.array_equal(found.params, expected.params)
    scored = [engine(name, precision).score(one.params, separable(SPECS[name][1]))["loss"] for one in (found, expected)]
    assert scored[0].mean() == pytest.approx(scored[1].mean(), abs=TOLERANCE[precision])


@each_precision
@pytest.mark.parametrize("name", SPECS)
def test_the_same_call_twice_gives_the_same_bits(name, precision):
    assert trained(name, precision).params.tobytes() == trained(name, precision).params.tobytes()


@each_precision
@pytest.mark.parametrize("name", SPECS)
def test_weights_begin_as_those_of_float32_and_stay_float32(name, precision):
    one = engine(name, precision)
    assert np.array_equal(one.init(7), engine(name, "float32").init(7))
    assert trained(name, precision).params.dtype == np.float32
    assert (one.size, one.trainable) == (engine(name, "float32").size, engine(name, "float32").trainable)


@each_precision
@pytest.mark.parametrize("name", SPECS)
def test_layers_compute_in_what_is_asked_and_scores_in_float32(name, precision):
    one = engine(name, precision)
    assert {layer.compute_dtype for layer in one._trained.layers} == {COMPUTES[precision]}
    assert {variable.dtype for variable in one._trained.trainable_variables} == {"float32"}
    assert {layer.compute_dtype for layer in one._model.layers} == {"float32"}


@each_precision
def test_the_policy_is_for_one_model_alone(precision):
    before = keras.config.dtype_policy().name
    build_seeded(Linear(), (2,), None, 0, precision)
    assert keras.config.dtype_policy().name == before == "float32"
    with pytest.raises(PlanError):
        build_seeded(CustomModel(target="no.such.module:build"), (2,), None, 0, precision)
    assert keras.config.dtype_policy().name == before


@each_precision
def test_what_was_trained_is_served_in_float32(precision):
    params, rows = trained("mlp", precision).params, separable((FEATURES,)).x
    served = ServedModel(SPECS["mlp"][0], (FEATURES,), CLASSES, Affine(np.zeros(FEATURES), np.ones(FEATURES)))
    assert {layer.compute_dtype for layer in served.model._flatten_layers()} == {"float32"}
    found = served.predict(params, rows)
    hidden = np.maximum(rows @ params[:96].reshape(6, 16) + params[96:112], 0)
    logits = hidden @ params[112:160].reshape(16, 3) + params[160:]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@each_precision
@pytest.mark.parametrize(
    ("spec", "inputs", "row"),
    [
        (Gru(units=3, vocabulary=3001), (4,), [3000, 2999, 1777, 2049]),
        (Recommender(users=3001, items=2050), (2,), [2999, 2049]),
    ],
    ids=["gru", "recommender"],
)
def test_numbers_that_name_something_are_not_rounded(spec, inputs, row, precision):
    """Of the numbers above 2048 float16 has every other one, bfloat16 every sixteenth."""
    one = KerasEngine(spec, inputs, 2, "graph", precision=precision)
    data = Split(np.array([row], np.float32), np.array([1], np.int32))
    work = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=1.0))
    moved = one.fit(one.init(0), data, work, np.random.default_rng(0)).params - one.init(0)
    first = one._layout.split(moved)[0]
    assert set(np.flatnonzero(np.abs(first).sum(axis=1))) <= set(row)


def slope(scale: float, distance: float) -> np.ndarray:
    """The gradient of linear regression in float16, so near to the target."""
    model = build_seeded(Linear(), (1,), None, 0, "mixed_float16")
    x = np.full((1, 1), 1.0, np.float32)
    one = MeanGradient(model, objective(None), scale)
    found = one([tf.zeros([1, 1]), tf.zeros([1])], [], x, np.full(1, distance, np.float32))
    return np.array([gradient.numpy().item() for gradient in found.gradients])


def test_the_scale_keeps_small_gradients_of_float16_from_vanishing():
    assert np.array_equal(slope(1.0, 1e-9), [0, 0])
    np.testing.assert_allclose(slope(LOSS_SCALES["mixed_float16"], 1e-9), [-2e-9, -2e-9], rtol=0.05)


def test_a_gradient_beyond_float16_is_not_finite():
    """Which leaves the client out of the round."""
    assert not np.isfinite(slope(LOSS_SCALES["mixed_float16"], 1e4)).any()


def test_scales_are_powers_of_two():
    assert all(np.log2(scale) % 1 == 0 for scale in LOSS_SCALES.values())


@each_precision
def test_examples_are_clipped_in_the_precision_asked(precision):
    work = WORK.model_copy(update={"clip_examples": 0.5})
    both = [
        engine("mlp", name).fit(engine("mlp", name).init(0), separable((FEATURES,)), work, np.random.default_rng(0))
        for name in (precision, "float32")
    ]
    assert both[0].metrics["train_loss"] == pytest.approx(both[1].metrics["train_loss"], abs=TOLERANCE[precision])


@each_precision
def test_a_model_whose_layers_have_a_type_of_their_own_is_refused(precision, tmp_path):
    build_seeded(Mlp(), (FEATURES,), CLASSES, 0).save(tmp_path / "saved.keras")
    for spec in (CustomModel(target=f"{__name__}:in_float32"), SavedModel(path=tmp_path / "saved.keras")):
        with pytest.raises(PlanError) as refusal:
            KerasEngine(spec, (FEATURES,), CLASSES, precision=precision)
        assert str(refusal.value) == (
            f"precision: {precision}, but the layers of the model are made to compute in float32; "
            "use float32, or build them without a dtype"
        )


def test_the_vectors_layout_is_that_of_float32():
    mixed, plain = (
        Layout(build_seeded(SPECS["normalised"][0], (FEATURES,), CLASSES, 0, name))
        for name in ("mixed_float16", "float32")
    )
    assert (mixed.size, mixed.states, mixed._shapes) == (plain.size, plain.states, plain._shapes)
