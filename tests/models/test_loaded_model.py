"""A registered model, loaded as a service would load it, is scored as it was in training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from federated.data import Split
from federated.errors import TrainingError
from federated.scaling import Affine
from models.architecture import Model
from models.keras_engine import KerasEngine
from models.loaded_model import LoadedModel
from models.served_model import ServedModel
from models.specs import CustomModel, Linear, Logistic, Mlp
from tests.models.samples import classified, valued, weights

FEATURES = 3
SCALING = Affine(np.array([1, -2, 30], np.float32), np.array([0.5, 4, 16], np.float32))
AS_IS = Affine(np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32))


def split(rows: int, classes: int | None) -> Split:
    """Raw rows."""
    drawn = valued(rows, FEATURES) if classes is None else classified(rows, FEATURES, classes)
    return Split(drawn.x * SCALING.std + SCALING.mean, drawn.y)


def registered(
    folder: Path, spec: Model, classes: int | None, params: np.ndarray, scaling: Affine = SCALING
) -> LoadedModel:
    """Saved as a training saves it, and loaded."""
    path = folder / "model.keras"
    ServedModel(spec, (FEATURES,), classes, scaling).save(params, path)
    return LoadedModel(path)


KINDS = [
    pytest.param(Linear(), None, id="regression"),
    pytest.param(Logistic(), 2, id="sigmoid"),
    pytest.param(Logistic(), 4, id="softmax"),
    pytest.param(Mlp(hidden=(5,)), 3, id="mlp"),
]


@pytest.mark.parametrize(("spec", "classes"), KINDS)
@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_its_scores_on_raw_rows_are_the_engines_on_scaled_rows(
    spec: Model, classes: int | None, rows: int, tmp_path: Path
) -> None:
    engine, data = KerasEngine(spec, (FEATURES,), classes), split(rows, classes)
    params = weights(engine.size)
    expected = engine.score(params, SCALING.apply(data))
    found = registered(tmp_path, spec, classes, params).score(data, classes)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].shape == (rows,)
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_moving_statistics_are_used_and_dropout_is_not(tmp_path: Path) -> None:
    spec = CustomModel(target="tests.flows.own_code:build", options={"width": 8})
    engine, data = KerasEngine(spec, (FEATURES,), 3), split(50, 3)
    params = np.abs(weights(engine.size))
    model = registered(tmp_path, spec, 3, params)
    expected = engine.score(params, SCALING.apply(data))
    for _ in range(2):
        np.testing.assert_allclose(model.score(data, 3)["loss"], expected["loss"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 10.0, 40.0])
def test_a_softmax_that_is_sure_and_wrong_costs_what_the_engine_says(scale: float, tmp_path: Path) -> None:
    engine, data = KerasEngine(Logistic(), (FEATURES,), 4), classified(200, FEATURES, 4)
    params = np.float32(scale) * weights(engine.size)
    expected = engine.score(params, data)
    found = registered(tmp_path, Logistic(), 4, params, AS_IS).score(data, 4)
    least = -np.log(np.finfo(np.float32).tiny)  # what a probability in single precision can say
    np.testing.assert_allclose(found["loss"], np.minimum(expected["loss"], least), rtol=1e-2, atol=1e-4)
    np.testing.assert_array_equal(found["accuracy"], expected["accuracy"])


@pytest.mark.parametrize("logit", [-30.0, -18.0, -8.0, 8.0, 18.0, 30.0])
def test_a_sigmoid_that_is_sure_and_wrong_costs_about_what_the_engine_says(logit: float, tmp_path: Path) -> None:
    engine = KerasEngine(Logistic(), (FEATURES,), 2)
    data = Split(np.zeros((1, FEATURES), np.float32), np.array([int(logit < 0)], np.int32))
    params = np.array([0, 0, 0, logit], np.float32)
    expected = engine.score(params, data)["loss"]
    found = registered(tmp_path, Logistic(), 2, params, AS_IS).score(data, 2)["loss"]
    assert found == pytest.approx(expected, rel=0.5)


def test_a_sigmoid_at_one_half_says_the_first_class_as_the_engine_does(tmp_path: Path) -> None:
    engine, data = KerasEngine(Logistic(), (FEATURES,), 2), classified(20, FEATURES, 2)
    params = np.zeros(engine.size, np.float32)
    found = registered(tmp_path, Logistic(), 2, params).score(data, 2)
    np.testing.assert_array_equal(found["accuracy"], engine.score(params, data)["accuracy"])
    np.testing.assert_array_equal(found["accuracy"], data.y == 0)


# What cannot be scored


@pytest.mark.parametrize(
    ("spec", "of", "asked", "names"),
    [
        (Logistic(), 4, 3, {"loss", "accuracy"}),
        (Logistic(), 4, 2, {"loss", "accuracy"}),
        (Logistic(), 4, None, {"loss", "mae"}),
        (Linear(), None, 4, {"loss", "accuracy"}),
    ],
)
def test_other_predictions_than_asked_for_are_nan(
    spec: Model, of: int | None, asked: int | None, names: set[str], tmp_path: Path
) -> None:
    size = KerasEngine(spec, (FEATURES,), of).size
    found = registered(tmp_path, spec, of, weights(size)).score(split(6, asked), asked)
    assert set(found) == names
    assert all(values.shape == (6,) and np.isnan(values).all() for values in found.values())


@pytest.mark.parametrize("shape", [(FEATURES + 1,), (FEATURES, 1), (1,), ()])
def test_other_rows_than_it_takes_are_nan(shape: tuple[int, ...], tmp_path: Path) -> None:
    model = registered(tmp_path, Logistic(), 4, weights(4 * (FEATURES + 1)))
    assert model.inputs == (FEATURES,)
    rows = np.zeros((6, *shape), np.float32)
    found = model.score(Split(rows, np.zeros(6, np.int32)), 4)
    assert all(values.shape == (6,) and np.isnan(values).all() for values in found.values())
    assert np.isnan(model.latency(rows))


def test_weights_that_are_nan_score_nan_and_are_never_right(tmp_path: Path) -> None:
    model = registered(tmp_path, Logistic(), 4, np.full(4 * (FEATURES + 1), np.nan, np.float32))
    assert np.isnan(model.score(split(6, 4), 4)["loss"]).all()


def test_a_prediction_takes_time(tmp_path: Path) -> None:
    model = registered(tmp_path, Mlp(hidden=(5,)), 3, weights(4 * 5 + 6 * 3))
    assert 0 < model.latency(split(32, 3).x) < 1


# What is no model


@pytest.mark.parametrize("content", [None, b"", b"no model", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_model_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"^the model cannot be loaded: .+; register layers") as caught:
        LoadedModel(path)
    assert "\n" not in str(caught.value)


def test_code_in_a_model_file_does_not_run(tmp_path: Path) -> None:
    rows, ran, path = keras.Input((FEATURES,)), tmp_path / "ran", tmp_path / "model.keras"
    where = str(ran)
    code = keras.layers.Lambda(lambda x: (open(where, "w").close(), x)[1], output_shape=(FEATURES,))  # noqa: PTH123
    keras.Model(rows, code(rows)).save(path)
    with pytest.raises(TrainingError, match="the model cannot be loaded"):
        LoadedModel(path)
    assert not ran.exists()
    keras.models.load_model(path, safe_mode=False)(np.zeros((1, FEATURES)))
    assert ran.exists(), "it would have run"


class Unregistered(keras.layers.Layer):
    """A layer that Keras does not know by name."""

    def call(self, rows):
        return rows


def test_a_layer_that_keras_does_not_know_is_one_line_that_says_how_to_make_it_known(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((FEATURES,)), Unregistered()]).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(f"{__name__}.Unregistered")
        with pytest.raises(TrainingError, match=r"keras\.saving\.register_keras_serializable"):
            LoadedModel(path)


def test_the_training_configuration_of_a_file_is_left_aside(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(4, activation="softmax")])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    found = LoadedModel(tmp_path / "model.keras").score(split(6, 4), 4)
    assert np.isfinite(found["loss"]).all()
