"""Laws of every architecture, and oracles: the arithmetic of the literature, written in NumPy."""

from __future__ import annotations

from typing import get_args

import keras
import numpy as np
import pytest

from federated.errors import PlanError
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from models.architecture import Model, build_seeded, output_units
from models.keras_engine import KerasEngine
from models.layout import Layout
from models.specs import AnyModel, Cnn, CustomModel, Gru, Lstm, Recommender, ResNet, SavedModel
from tests.models.architectures import MEMBERS, Member
from tests.models.samples import fill, weights

WORK = LocalTraining(epochs=2, batch_size=4, optimizer=Sgd(learning_rate=0.05))

every_member = pytest.mark.parametrize("member", MEMBERS.values(), ids=MEMBERS)


def engine_of(member: Member) -> KerasEngine:
    return KerasEngine(member.spec, member.inputs, member.classes)


def test_every_architecture_that_ships_is_tried() -> None:
    shipped = set(get_args(get_args(AnyModel)[0])) - {CustomModel, SavedModel}
    assert {type(member.spec) for member in MEMBERS.values()} == shipped


@every_member
def test_the_count_of_parameters_needs_no_model(member: Member) -> None:
    model = member.spec.build(member.inputs, member.classes)
    assert member.spec.parameters(member.inputs, member.classes) == model.count_params()
    assert model.output_shape == (None, output_units(member.classes))


@every_member
def test_training_lowers_the_loss_and_comes_out_the_same_twice(member: Member) -> None:
    engine, rows = engine_of(member), member.rows(24)
    start = engine.init(1)
    work = LocalTraining(epochs=30, batch_size=8, optimizer=Sgd(learning_rate=0.05))
    first, second = (engine.fit(start, rows, work, np.random.default_rng(3)).params for _ in range(2))
    assert np.array_equal(first, second)
    assert engine.score(first, rows)["loss"].mean() < engine.score(start, rows)["loss"].mean()


@every_member
def test_training_is_sgd_as_keras_does_it(member: Member) -> None:
    """One batch, one step: Keras' own gradient of the mean loss."""
    engine, rows = engine_of(member), member.rows(8)
    start = weights(engine.size) / 4
    work = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=0.1))
    fitted = engine.fit(start, rows, work, np.random.default_rng(0))
    model = member.spec.build(member.inputs, member.classes)
    fill(model, start)
    loss = {
        None: keras.losses.MeanSquaredError(),
        2: keras.losses.BinaryCrossentropy(from_logits=True),
    }.get(member.classes, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.train_on_batch(rows.x, rows.y.reshape(-1, 1))
    np.testing.assert_allclose(fitted.params, Layout(model).read(model), atol=1e-5)


@every_member
def test_an_architecture_that_keras_saved_is_the_same_one(member: Member, tmp_path) -> None:
    build_seeded(member.spec, member.inputs, member.classes, 5).save(tmp_path / "mine.keras")
    saved = KerasEngine(SavedModel(path=tmp_path / "mine.keras"), member.inputs, member.classes)
    engine, rows = engine_of(member), member.rows(8)
    start = engine.init(2)
    assert saved.size == engine.size
    fitted = [each.fit(start, rows, WORK, np.random.default_rng(3)).params for each in (engine, saved)]
    assert np.array_equal(*fitted)


@every_member
def test_the_weights_in_a_saved_file_are_not_read(member: Member, tmp_path) -> None:
    model = member.spec.build(member.inputs, member.classes)
    fill(model, np.full(model.count_params(), 7.0, np.float32))
    model.save(tmp_path / "mine.keras")
    saved = KerasEngine(SavedModel(path=tmp_path / "mine.keras"), member.inputs, member.classes)
    assert np.array_equal(saved.init(1), saved.init(1))
    assert not (saved.init(1) == 7.0).any()


# Oracles


def test_the_cnn_of_the_fedavg_paper_has_its_parameters() -> None:
    assert Cnn().parameters((28, 28, 1), 10) == 1_663_370


def test_a_recommender_is_a_product_of_factors_and_two_biases() -> None:
    spec, rows = Recommender(users=5, items=6, dimensions=3), MEMBERS["recommender"].rows(20)
    model = spec.build((2,), None)
    fill(model, weights(model.count_params()))
    users, items, user_bias, item_bias, kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    user, item = rows.x.astype(int).T
    liked = np.sum(users[user] * items[item], axis=1) + user_bias[user, 0] + item_bias[item, 0]
    np.testing.assert_allclose(model(rows.x)[:, 0], liked * kernel[0, 0] + bias[0], rtol=1e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def last_of_lstm(x, kernel, recurrent, bias):
    hidden = cell = np.zeros((len(x), recurrent.shape[0]))
    for step in range(x.shape[1]):
        gates = x[:, step] @ kernel + hidden @ recurrent + bias
        taken, kept, new, shown = np.split(gates, 4, axis=1)
        cell = sigmoid(kept) * cell + sigmoid(taken) * np.tanh(new)
        hidden = sigmoid(shown) * np.tanh(cell)
    return hidden


def last_of_gru(x, kernel, recurrent, biases):
    hidden = np.zeros((len(x), recurrent.shape[0]))
    for step in range(x.shape[1]):
        update, reset, new = np.split(x[:, step] @ kernel + biases[0], 3, axis=1)
        old_update, old_reset, old_new = np.split(hidden @ recurrent + biases[1], 3, axis=1)
        keep = sigmoid(update + old_update)
        hidden = keep * hidden + (1 - keep) * np.tanh(new + sigmoid(reset + old_reset) * old_new)
    return hidden


@pytest.mark.parametrize(("spec", "oracle"), [(Lstm(units=4), last_of_lstm), (Gru(units=4), last_of_gru)])
def test_a_recurrent_layer_is_what_its_paper_says(spec: Model, oracle) -> None:
    rows = MEMBERS["lstm"].rows(10)
    model = spec.build((6, 2), None)
    fill(model, weights(model.count_params()))
    *cell, kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    expected = oracle(rows.x, *cell) @ kernel + bias
    np.testing.assert_allclose(model(rows.x), expected, atol=1e-5)


def test_a_residual_network_without_its_convolutions_is_its_stem() -> None:
    """With kernels of zero in the blocks a block gives what it was given."""
    spec = ResNet(widths=(4,), blocks=3, groups=2)
    model = spec.build((5, 5, 1), 3)
    stem, *blocks = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in blocks:
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    x = MEMBERS["resnet"].rows(4).x[:, :5, :5]
    relu = next(layer for layer in model.layers if isinstance(layer, keras.layers.Activation))
    shown = keras.Model(model.inputs[0], [relu.output, model.layers[-2].output])(x)
    np.testing.assert_allclose(np.mean(shown[0], axis=(1, 2)), shown[1], atol=1e-6)
    assert stem.kernel.shape == (3, 3, 1, 4)


# What does not fit


@pytest.mark.parametrize(
    ("spec", "inputs", "classes", "complaint"),
    [
        (
            Cnn(),
            (64,),
            10,
            r"model.cnn: takes examples of shape \(height, width, channels\), 4x4 .*, the data have \(64,\)",
        ),
        (Cnn(), (3, 8, 1), 10, "model.cnn: takes examples"),
        (ResNet(), (3, 8, 1), 10, "model.resnet: takes examples of shape .*, 4x4 or larger"),
        (Lstm(), (2, 3, 4), 10, r"model.lstm: takes examples of shape \(steps,\) or \(steps, features\)"),
        (Gru(vocabulary=9), (2, 3), 9, r"model.gru: takes examples of shape \(steps,\) with a vocabulary"),
        (Recommender(users=2, items=3), (3,), None, r"model.recommender: takes examples of shape \(2,\)"),
        (Recommender(users=2, items=3), (2,), 5, "model.recommender: the target must be a rating or one of 2 classes"),
    ],
)
def test_data_that_an_architecture_does_not_take_are_refused(spec: Model, inputs, classes, complaint: str) -> None:
    with pytest.raises(PlanError, match=complaint):
        spec.check(inputs, classes)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must divide every width, 8 does not divide 12"):
        ResNet(widths=(16, 12))


@every_member
def test_data_that_it_takes_are_taken(member: Member) -> None:
    member.spec.check(member.inputs, member.classes)


class Twice(keras.layers.Layer):
    """A layer of somebody's own."""

    def call(self, x):
        return 2 * x


def test_files_that_are_no_architecture_are_one_line(tmp_path) -> None:
    absent, torn, other = (tmp_path / name for name in ("absent.keras", "torn.keras", "other.keras"))
    torn.write_bytes(b"PK\x03\x04")
    model = keras.Sequential([keras.Input((5,)), Twice(), keras.layers.Dense(3)])
    model.save(other)
    for path, complaint in [
        (absent, "is not there"),
        (torn, "cannot be read as a model of Keras' own layers"),
        (other, "cannot be read as a model of Keras' own layers .*; kind: custom takes others"),
    ]:
        with pytest.raises(PlanError, match=rf"model.saved.path: {path} {complaint}") as refusal:
            SavedModel(path=path).parameters((5,), 3)
        assert "\n" not in str(refusal.value)


def test_code_in_a_saved_file_is_not_run(tmp_path) -> None:
    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((5,)), keras.layers.Lambda(lambda x: x), keras.layers.Dense(3)]).save(path)
    with pytest.raises(PlanError, match=r"model.saved.path: .* cannot be read as a model of Keras. own layers .*"):
        SavedModel(path=path).parameters((5,), 3)


@pytest.mark.parametrize(
    ("inputs", "classes", "complaint"),
    [
        ((6,), 3, r"must take examples of shape \(None, 6\), it takes \(None, 5\)"),
        ((5,), 4, r"must end in shape \(None, 4\), got \(None, 3\)"),
    ],
)
def test_a_saved_architecture_that_does_not_fit_the_data_is_refused(tmp_path, inputs, classes, complaint) -> None:
    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(path)
    with pytest.raises(PlanError, match=complaint):
        SavedModel(path=path).parameters(inputs, classes)
