"""The model that leaves the training: raw rows in, probabilities or a value out, from one file."""

from pathlib import Path

import keras
import numpy as np
import pytest

from federated.data import Split
from federated.scaling import Affine, Standardize
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.served_model import ServedModel
from models.specs import CustomModel, Linear, Logistic, Mlp
from tests.models.samples import weights

FEATURES, ROWS = 3, 6
SCALING = Affine(np.array([1, -2, 30], np.float32), np.array([0.5, 4, 16], np.float32))


def raw(*shape: int) -> np.ndarray:
    """Rows as a caller has them: not scaled."""
    return (10 * np.random.default_rng(2).normal(size=(ROWS, *shape))).astype(np.float32)


def scaled(rows: np.ndarray, scaling: Affine = SCALING) -> np.ndarray:
    return (rows.astype(np.float64) - scaling.mean) / scaling.std


def dense(rows: np.ndarray, params: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """A layer by hand; also the weights that it left over."""
    kernel, bias, rest = np.split(params, [rows.shape[1] * units, (rows.shape[1] + 1) * units])
    return rows @ kernel.reshape(rows.shape[1], units) + bias, rest


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def identity(values: np.ndarray) -> np.ndarray:
    return values


@pytest.mark.parametrize(
    ("spec", "classes", "activation"),
    [
        pytest.param(Linear(), None, identity, id="linear"),
        pytest.param(Logistic(), 2, sigmoid, id="binary"),
        pytest.param(Logistic(), 4, softmax, id="multinomial"),
    ],
)
def test_predictions_on_raw_rows_are_those_by_hand_on_scaled_rows(spec, classes, activation):
    units = output_units(classes)
    served = ServedModel(spec, (FEATURES,), classes, SCALING)
    params, rows = weights((FEATURES + 1) * units), raw(FEATURES)
    expected = activation(dense(scaled(rows), params, units)[0])
    found = served.predict(params, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert found.shape == (ROWS, served.output_units)
    assert served.output_units == units


def test_a_served_image_is_scaled_pixel_by_pixel():
    shape = (2, 2, 1)
    rng = np.random.default_rng(4)
    mean, std = rng.normal(size=shape), rng.uniform(0.5, 2, size=shape)
    scaling = Affine(mean.astype(np.float32), std.astype(np.float32))
    served = ServedModel(Mlp(hidden=(5,)), shape, 3, scaling)
    params, rows = weights(5 * 5 + 6 * 3), raw(*shape)
    hidden, rest = dense(scaled(rows, scaling).reshape(ROWS, 4), params, 5)
    logits, rest = dense(np.maximum(hidden, 0), rest, 3)
    assert rest.size == 0
    found = served.predict(params, rows)
    np.testing.assert_allclose(found, softmax(logits), rtol=1e-5, atol=1e-5)


def test_what_is_served_is_what_was_scored():
    """The served model repeats the scaling that training rows went through."""
    rows, y = raw(FEATURES), np.arange(ROWS, dtype=np.int32) % 3
    scaling = Standardize().fit([Split(rows, y)])
    engine = KerasEngine(Logistic(), (FEATURES,), 3)
    params = weights(engine.size)
    losses = engine.score(params, scaling.apply(Split(rows, y)))["loss"]
    chances = ServedModel(Logistic(), (FEATURES,), 3, scaling).predict(params, rows)
    np.testing.assert_allclose(-np.log(chances[np.arange(ROWS), y]), losses, rtol=1e-4)


def test_a_constant_feature_is_served_as_it_was_trained():
    rows = raw(FEATURES)
    rows[:, 1] = 7
    scaling = Standardize().fit([Split(rows, np.zeros(ROWS, np.float32))])
    params = weights(FEATURES + 1)
    served = ServedModel(Linear(), (FEATURES,), None, scaling).predict(params, rows)
    expected, _ = dense(scaled(rows, scaling), params, 1)
    np.testing.assert_allclose(served, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [1e-9, 1e20], ids=["small", "large"])
def test_features_of_any_size_are_served_as_they_were_trained(size):
    rows = raw(FEATURES) * np.float32(size)
    scaling = Standardize().fit([Split(rows, np.zeros(ROWS, np.float32))])
    params = weights(FEATURES + 1)
    served = ServedModel(Linear(), (FEATURES,), None, scaling).predict(params, rows)
    expected, _ = dense(scaled(rows, scaling), params, 1)
    np.testing.assert_allclose(served, expected, rtol=1e-4, atol=1e-4)


def convolutional(inputs, classes):
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.Conv2D(2, 2, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(output_units(classes)),
        ]
    )


CONVOLUTIONAL = CustomModel(target=f"{__name__}:convolutional")


@pytest.mark.parametrize(
    ("spec", "shape", "classes"),
    [
        pytest.param(Linear(), (FEATURES,), None, id="linear"),
        pytest.param(Logistic(), (FEATURES,), 2, id="binary"),
        pytest.param(Mlp(hidden=(5,)), (FEATURES,), 3, id="mlp"),
        pytest.param(CONVOLUTIONAL, (4, 4, 1), 3, id="convolutional"),
    ],
)
def test_the_saved_file_predicts_the_same_in_plain_keras(spec, shape, classes, tmp_path: Path):
    scaling = Affine(np.full(shape, 3, np.float32), np.full(shape, 7, np.float32))
    served = ServedModel(spec, shape, classes, scaling)
    params, rows = np.abs(weights(spec.parameters(shape, classes))), raw(*shape)
    served.save(params, tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = served.predict(params, rows)
    np.testing.assert_allclose(loaded(rows, training=False), expected, rtol=1e-6, atol=1e-6)
    assert np.ptp(expected) > 1e-3


@keras.saving.register_keras_serializable("tests")
class SavesItsOwnWay(keras.layers.Dense):
    """A layer that does not save its weights as they are."""

    def save_own_variables(self, store):
        store["both"] = np.concatenate([np.ravel(self.kernel), np.ravel(self.bias)])

    def load_own_variables(self, store):
        kernel, bias = np.split(store["both"][()], [self.kernel.shape[0] * self.units])
        self.kernel.assign(kernel.reshape(self.kernel.shape))
        self.bias.assign(bias)


def own_way(inputs, classes):
    return keras.Sequential([keras.Input(inputs), SavesItsOwnWay(output_units(classes))])


def shared_layer(inputs, classes):
    rows, layer = keras.Input(inputs), keras.layers.Dense(inputs[0])
    return keras.Model(rows, keras.layers.Dense(output_units(classes))(layer(layer(rows))))


@pytest.mark.parametrize("build", ["own_way", "shared_layer"])
def test_layers_that_save_unusually_are_saved(build, tmp_path: Path):
    spec = CustomModel(target=f"{__name__}:{build}")
    served = ServedModel(spec, (FEATURES,), 3, SCALING)
    rows = raw(FEATURES)
    for seed in (1, 2):
        params = weights(spec.parameters((FEATURES,), 3), seed)
        served.save(params, tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(rows), served.predict(params, rows), atol=1e-6)


def test_equal_weights_are_equal_files(tmp_path: Path):
    served = ServedModel(CONVOLUTIONAL, (4, 4, 1), 3, Affine(np.zeros((4, 4, 1)), np.ones((4, 4, 1))))
    size, files = CONVOLUTIONAL.parameters((4, 4, 1), 3), []
    for position, seed in enumerate((1, 2, 1)):
        path = tmp_path / f"{position}.keras"
        served.save(weights(size, seed), path)
        files.append(path.read_bytes())
    assert files[0] == files[2] != files[1]


def test_each_save_writes_its_own_weights(tmp_path: Path):
    served = ServedModel(Logistic(), (FEATURES,), 3, SCALING)
    rows, files = raw(FEATURES), {seed: tmp_path / f"{seed}.keras" for seed in (1, 2)}
    vectors = {seed: weights((FEATURES + 1) * 3, seed) for seed in files}
    for seed, path in files.items():
        served.save(vectors[seed], path)
    found = {seed: keras.models.load_model(path)(rows).numpy() for seed, path in files.items()}
    for seed, vector in vectors.items():
        np.testing.assert_allclose(found[seed], served.predict(vector, rows), atol=1e-6)
    assert np.abs(found[1] - found[2]).max() > 0.1


def test_predictions_have_no_dropout():
    served = ServedModel(CONVOLUTIONAL, (4, 4, 1), 3, Affine(np.zeros((4, 4, 1)), np.ones((4, 4, 1))))
    params, rows = np.abs(weights(CONVOLUTIONAL.parameters((4, 4, 1), 3))), raw(4, 4, 1)
    assert served.predict(params, rows).tobytes() == served.predict(params, rows).tobytes()


@pytest.mark.parametrize("change", [-1, 1])
def test_a_vector_of_another_length_is_refused(change):
    served = ServedModel(Linear(), (FEATURES,), None, SCALING)
    with pytest.raises(ValueError, match="reshape"):
        served.predict(weights(FEATURES + 1 + change), raw(FEATURES))
