"""DP-SGD: batches by chance, examples' gradients clipped and added up, noise of the size that is paid for."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from federated.data import Split
from federated.dp_sgd import DpSgd
from federated.engine import Fitted, Terms
from federated.errors import PlanError
from federated.local_optimizers import Adam, Sgd
from federated.local_training import LocalTraining
from models import noise
from models.architecture import Model, output_units
from models.dense_examples import DenseExamples, takes
from models.gradients import ClippedExamples, MeanGradient
from models.keras_engine import KerasEngine
from models.layout import Layout
from models.losses import CustomLoss
from models.noise import KEY, drawn_with, normals
from models.objectives import CrossEntropy, Objective, SquaredError
from models.specs import Cnn, CustomModel, Gru, Linear, Logistic, Lstm, Mlp
from tests.models.samples import classified, valued, weights

ROWS, FEATURES, BATCH, SEED = 40, 3, 10, 5


def work(noise: float = 1.0, norm: float = 1.0, steps: int = 8, rate: float = 0.1, **more: object) -> LocalTraining:
    how = DpSgd(norm=norm, noise_multiplier=noise, seeded=True)
    return LocalTraining(batch_size=BATCH, steps=steps, optimizer=Sgd(learning_rate=rate), dp_sgd=how, **more)


def trained(spec: Model, data: Split, asked: LocalTraining, seed: int = SEED, classes: int | None = None) -> Fitted:
    one = KerasEngine(spec, data.x.shape[1:], classes)
    return one.fit(weights(one.size), data, asked, np.random.default_rng(seed))


def by_hand(data: Split, asked: LocalTraining) -> np.ndarray:
    """Linear least squares in float64, with the engine's draws and its noise."""
    how, rng = asked.dp_sgd, np.random.default_rng(SEED)
    steps = asked.steps or 0
    keys = np.frombuffer(rng.bytes(32 * steps), np.int32).reshape(steps, KEY)
    rng.bytes(0)  # for states, of which there are none
    draws = how.draw(BATCH, ROWS, steps, rng)
    current = weights(FEATURES + 1).astype(np.float64)
    for places, counts, key in zip(*draws, keys, strict=True):
        batch = places[counts > 0]
        design = np.column_stack([data.x[batch], np.ones(len(batch))])
        own = 2 * design * (design @ current - data.y[batch])[:, None]
        own *= np.minimum(1, how.norm / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12))
        noise = how.noise_multiplier * how.norm * drawn_with(FEATURES + 1, key)
        current -= asked.optimizer.learning_rate * (own.sum(axis=0) + noise) / BATCH
    return current


@pytest.mark.parametrize("norm", [0.01, 1.0, 1e4])
@pytest.mark.parametrize("noise", [1e-6, 0.7])
def test_training_is_the_algorithm_written_by_hand(norm: float, noise: float) -> None:
    data, asked = valued(ROWS, FEATURES), work(noise, norm, rate=0.1 if norm < 1e4 else 1e-3)
    found = trained(Linear(), data, asked)
    np.testing.assert_allclose(found.params, by_hand(data, asked), atol=2e-5)
    assert found.metrics == {}, "a loss of training rows would not be noised"


SPECS = [
    pytest.param(Mlp(hidden=(8, 5)), (FEATURES,), 3, id="mlp"),
    pytest.param(Logistic(), (4, 4, 1), 3, id="logistic on images"),
    pytest.param(Linear(), (FEATURES,), None, id="linear"),
]


@pytest.mark.parametrize(("spec", "inputs", "classes"), SPECS)
@pytest.mark.parametrize("norm", [0.05, 1.0, 1e6])
def test_dense_layers_come_to_the_same_sum_as_gradients_one_by_one(spec, inputs, classes, norm) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, *inputs)).astype(np.float32) * rng.gamma(0.3, 5, size=(12, *[1] * len(inputs)))
    data = (x.astype(np.float32), rng.integers(0, 3, 12).astype(np.int32 if classes else np.float32))
    given = ((rng.random(12) < 0.7) * rng.gamma(2, 1, 12)).astype(np.float32)
    model = spec.build(inputs, classes)
    layout, objective = Layout(model), _objective(classes)
    assert takes(model)
    one_by_one = ClippedExamples(MeanGradient(model, objective), layout, norm).summed
    trainable, state = layout.unpack(tf.constant(weights(layout.size)), tf.zeros([layout.states, 2], tf.int32))
    expected, found = (
        tf.function(summed)(trainable, state, *data, given)
        for summed in (one_by_one, DenseExamples(model, objective, norm))
    )
    for one, other in zip(expected.gradients, found.gradients, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)
    assert float(found.loss) == pytest.approx(float(expected.loss), rel=1e-5)


def _objective(classes: int | None) -> Objective:
    return CrossEntropy() if classes else SquaredError()


def shared(inputs, classes):
    given = keras.Input(inputs)
    layer = keras.layers.Dense(inputs[0])
    return keras.Model(given, keras.layers.Dense(output_units(classes))(layer(layer(given))))


def penalised(inputs, classes):
    penalty = keras.regularizers.L2(0.1)
    return keras.Sequential(
        [keras.Input(inputs), keras.layers.Dense(output_units(classes), kernel_regularizer=penalty)]
    )


def centred(rows):
    return rows - keras.ops.mean(rows, axis=0)


class Add(keras.layers.Layer):
    def call(self, rows):
        return centred(rows)


def mixing(inputs, classes):
    return keras.Sequential([keras.Input(inputs), keras.layers.Dense(output_units(classes), activation=centred)])


def of_another_kind(inputs, classes):
    return keras.Sequential([keras.Input(inputs), Add(), keras.layers.Dense(output_units(classes))])


def mixing_between_layers(inputs, classes):
    given = keras.Input(inputs)
    return keras.Model(given, keras.layers.Dense(output_units(classes))(centred(keras.layers.Dense(4)(given))))


def mixing_by_keras_own(inputs, classes):
    """``keras.ops.flip`` is Keras's own, but no activation: without an axis it changes the order of rows."""
    dense = keras.layers.Dense(output_units(classes), activation=keras.ops.flip)
    return keras.Sequential([keras.Input(inputs), dense])


def penalised_by_what_it_gives(inputs, classes):
    dense = keras.layers.Dense(output_units(classes), activity_regularizer=keras.regularizers.L2(0.1))
    return keras.Sequential([keras.Input(inputs), dense])


def nested(inputs, classes):
    inner = keras.Sequential([keras.Input(inputs), keras.layers.Dense(4, activation="relu")])
    return keras.Sequential([keras.Input(inputs), inner, keras.layers.Dense(output_units(classes))])


class Centred(keras.Sequential):
    def call(self, rows, **given):
        return centred(super().call(rows, **given))


def with_a_call_of_its_own(inputs, classes):
    return Centred([keras.Input(inputs), keras.layers.Dense(output_units(classes))])


def adapted(inputs, classes):
    dense = keras.layers.Dense(output_units(classes))
    model = keras.Sequential([keras.Input(inputs), dense])
    dense.enable_lora(1)
    return model


@pytest.mark.parametrize(
    "spec",
    [
        "shared",
        "penalised",
        "penalised_by_what_it_gives",
        "mixing",
        "mixing_by_keras_own",
        "mixing_between_layers",
        "of_another_kind",
        "nested",
        "with_a_call_of_its_own",
    ],
)
def test_what_the_short_way_does_not_hold_for_goes_one_by_one(spec) -> None:
    model = CustomModel(target=f"{__name__}:{spec}")
    assert not takes(model.build((FEATURES,), 3))
    assert np.isfinite(trained(model, classified(ROWS, FEATURES, 3), work(), classes=3).params).all()


def by_variance(targets, outputs):
    """Every row's loss depends on all targets of its batch."""
    return keras.ops.square(outputs[:, 0] - targets) / (keras.ops.var(targets) + 1e-6)


def test_a_loss_of_ones_own_goes_one_by_one_for_it_may_look_at_the_batch() -> None:
    """One row in place of another moves the clipped sum by twice the norm at most."""
    norm, data = 0.5, valued(ROWS, FEATURES)
    one = KerasEngine(Linear(), (FEATURES,), None, loss=CustomLoss(target=f"{__name__}:by_variance"))
    summed = one._clipped_sum(DpSgd(norm=norm, noise_multiplier=1.0))
    layout = Layout(Linear().build((FEATURES,), None))
    trainable, state = layout.unpack(tf.constant(weights(layout.size)), tf.zeros([layout.states, 2], tf.int32))
    other = np.concatenate([data.y[:-1], [1e4]]).astype(np.float32)
    given = tf.constant(data.x), tf.ones(ROWS)
    slopes = [summed(trainable, state, given[0], tf.constant(y), given[1]).gradients for y in (data.y, other)]
    one_way, the_other = (np.concatenate([np.ravel(each) for each in gradients]) for gradients in slopes)
    assert np.linalg.norm(one_way - the_other) <= 2 * norm * (1 + 1e-5)


def test_adapters_of_a_dense_layer_do_not_go_the_short_way() -> None:
    assert not takes(adapted((FEATURES,), 3))


def test_convolutions_and_recurrent_layers_train_too() -> None:
    rng = np.random.default_rng(0)
    for spec, inputs in ((Cnn(filters=(2, 2), hidden=4), (8, 8, 1)), (Gru(units=3), (5,))):
        assert not takes(spec.build(inputs, 3))
        data = Split(rng.normal(size=(20, *inputs)).astype(np.float32), rng.integers(0, 3, 20).astype(np.int32))
        one = KerasEngine(spec, inputs, 3)
        fitted = one.fit(one.init(0), data, work(noise=1e-6, norm=0.01, steps=1, rate=1.0), np.random.default_rng(1))
        assert 0 < np.linalg.norm(fitted.params - one.init(0)) <= 0.01 * 20 / BATCH


@pytest.mark.parametrize(
    "spec",
    [
        Gru(units=3, vocabulary=7, embedding=2),
        pytest.param(Lstm(units=3, vocabulary=7, embedding=2), marks=pytest.mark.slow),
    ],
    ids=lambda spec: spec.kind,
)
def test_recurrent_layers_behind_an_embedding_train_too(spec) -> None:
    """One example after the other: TensorFlow cannot vectorize that loop. A norm that clips nothing changes nothing."""
    rng = np.random.default_rng(0)
    data = Split(rng.integers(0, 7, (20, 5)).astype(np.float32), rng.integers(0, 3, 20).astype(np.int32))
    one = KerasEngine(spec, (5,), 3)
    private = one.fit(one.init(0), data, work(noise=1e-6, norm=0.01, steps=1, rate=1.0), np.random.default_rng(1))
    assert 0 < np.linalg.norm(private.params - one.init(0)) <= 0.01 * 20 / BATCH
    asked = LocalTraining(batch_size=BATCH, steps=3, optimizer=Sgd(learning_rate=0.1))
    plain, unclipped, clipped = (
        one.fit(one.init(0), data, asked.model_copy(update={"clip_examples": norm}), np.random.default_rng(1)).params
        for norm in (None, 1e6, 0.01)
    )
    np.testing.assert_allclose(unclipped, plain, atol=1e-6)
    assert 0 < np.linalg.norm(clipped - one.init(0)) <= 3 * 0.1 * 0.01 * (1 + 1e-5)


def test_the_noise_of_a_step_is_as_large_as_it_is_paid_for() -> None:
    """Standard deviation of 1.5 · 0.5 / 10, at a learning rate of 1, where gradients are next to nothing."""
    data = Split(np.zeros((ROWS, 50), np.float32), np.zeros(ROWS, np.int32))
    one = KerasEngine(Mlp(hidden=(64,)), (50,), 3)
    start = np.zeros(one.size, np.float32)
    moved = one.fit(start, data, work(1.5, 0.5, steps=1, rate=1.0), np.random.default_rng(0)).params
    hidden = moved[: 50 * 64]  # of inputs that are zero
    assert np.std(hidden) == pytest.approx(0.075, rel=0.06)
    assert stats.kstest(hidden / 0.075, "norm").pvalue > 1e-6


def test_normal_numbers_of_the_graph_are_normal() -> None:
    keys = np.arange(8 * KEY, dtype=np.int32).reshape(8, KEY)
    drawn = np.concatenate([normals(50_001, tf.constant(key)).numpy() for key in keys])
    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    assert stats.kurtosis(drawn) == pytest.approx(0, abs=0.05)
    assert np.abs(drawn).max() > 4
    for lag in (1, 16_384, 32_768, 50_001):  # within a chunk, from half to half of it, from key to key
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < 0.01
    one = normals(50_000, tf.constant(keys[0])).numpy()
    np.testing.assert_array_equal(one, drawn_with(50_000, keys[0]))
    np.testing.assert_allclose(normals(50_000, tf.constant(keys[0]), 1e-30).numpy(), 1e-30 * one, rtol=1e-6)


def test_the_rarest_bits_give_finite_noise_and_no_size_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    key = np.zeros(KEY, np.int32)
    assert [drawn_with(size, key).shape for size in (0, 1, 2, 3)] == [(0,), (1,), (2,), (3,)]
    for bits, most in ((0, 11.6), (2**64 - 1, 1e-6)):
        monkeypatch.setattr(
            "models.noise.keyed_bits", lambda _, bits=bits: lambda count: np.full(count, bits, np.uint64)
        )
        assert np.abs(drawn_with(100, key)).max() == pytest.approx(most, abs=0.05)


def test_beyond_what_32_bits_reach_there_is_noise_as_seldom_as_there_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the four smallest words of all: a radius's tail is exp(-r²/2), so that of these is four times 2⁻³²."""
    rng = np.random.default_rng(0)

    def smallest(_: bytes) -> Callable[[int], np.ndarray]:
        words = rng.integers(0, 2**32, 80_000, dtype=np.uint32)
        words[:40_000] %= 4
        further = iter([words.view(np.uint64), rng.integers(0, 2**64, 40_000, dtype=np.uint64)])
        return lambda count: next(further)

    monkeypatch.setattr(noise, "_CHUNK", 80_000)
    monkeypatch.setattr(noise, "_RARE", 4)
    monkeypatch.setattr(noise, "keyed_bits", smallest)
    drawn = drawn_with(80_000, np.zeros(KEY, np.int32)).astype(np.float64)
    radius = np.hypot(drawn[:40_000], drawn[40_000:])
    assert stats.kstest(np.exp(-(radius**2) / 2) * 2.0**32 / 4, "uniform").pvalue > 1e-3
    assert radius.max() > 7.5


def test_one_record_moves_a_step_by_no_more_than_norm_over_batch() -> None:
    """Whatever it holds: an outlier, or no number at all."""
    data = valued(ROWS, FEATURES)
    for outlier in (1e6, 1e30, np.nan, np.inf):
        x = data.x.copy()
        x[0] = outlier
        moved = []
        for rows in (x, data.x):
            how = DpSgd(norm=0.1, noise_multiplier=1.0, seeded=True)
            asked = LocalTraining(batch_size=None, steps=1, optimizer=Sgd(learning_rate=1.0), dp_sgd=how)
            moved.append(trained(Linear(), Split(rows, data.y), asked).params)
        assert np.linalg.norm(moved[0] - moved[1]) <= 2 * 0.1 / ROWS * (1 + 1e-4)


@pytest.mark.parametrize(("inputs", "target"), [(9.8e18, 4e-20), (5e17, 5e-20), (5e-20, 5e18), (1e30, 1e20)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_gradient_of_very_small_and_very_large_factors_is_clipped(inputs: float, target: float, bias: bool) -> None:
    given = keras.Input((FEATURES,))
    model = keras.Model(given, keras.layers.Dense(1, use_bias=bias, kernel_initializer="zeros")(given))
    assert takes(model)
    layout, norm = Layout(model), 0.1
    zeros = tf.zeros([layout.size]), tf.zeros([layout.states, 2], tf.int32)
    rows = np.full((2, FEATURES), inputs, np.float32), np.full(2, target, np.float32), np.array([1, 0], np.float32)
    for compiled in (False, True):
        summed = tf.function(DenseExamples(model, SquaredError(), norm), jit_compile=compiled)
        found = summed(*layout.unpack(*zeros), *rows).gradients
        assert np.linalg.norm(np.concatenate([np.ravel(one) for one in found]).astype(np.float64)) <= norm * (1 + 1e-5)


def test_a_step_whose_draw_is_empty_is_noise() -> None:
    how = DpSgd(norm=1.0, noise_multiplier=1.0, seeded=True)
    draws = how.draw(1, 1000, 200, np.random.default_rng(0))
    empty = int((draws.counts.sum(axis=1) == 0).sum())
    assert empty > 40
    asked = LocalTraining(batch_size=1, steps=200, optimizer=Sgd(learning_rate=0.01), dp_sgd=how)
    assert np.isfinite(trained(Linear(), valued(1000, FEATURES), asked).params).all()


def test_seeded_noise_is_a_function_of_the_seed_and_secret_noise_of_nothing() -> None:
    data, seeded = valued(ROWS, FEATURES), work()
    secret = seeded.model_copy(update={"dp_sgd": DpSgd(norm=1.0, noise_multiplier=1.0)})
    one, same, other = (trained(Linear(), data, seeded, seed).params for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).all()
    assert (trained(Linear(), data, secret, 1).params != trained(Linear(), data, secret, 1).params).all()


def test_every_optimizer_takes_the_noised_gradient_and_terms_hold() -> None:
    data = valued(ROWS, FEATURES)
    adam = work(1e-6).model_copy(update={"optimizer": Adam(learning_rate=0.01)})
    assert np.isfinite(trained(Linear(), data, adam).params).all()
    one = KerasEngine(Linear(), (FEATURES,), None)
    start = weights(one.size)
    still = Terms(factor=0.0)
    np.testing.assert_array_equal(one.fit(start, data, work(), np.random.default_rng(0), still).params, start)


def normalised(inputs, classes):
    return keras.Sequential(
        [keras.Input(inputs), keras.layers.BatchNormalization(), keras.layers.Dense(output_units(classes))]
    )


def test_what_mixes_examples_is_refused() -> None:
    one = KerasEngine(CustomModel(target=f"{__name__}:normalised"), (FEATURES,), 3)
    with pytest.raises(PlanError, match="batch normalisation mixes the examples"):
        one.prepare(work())
    for way in ("xla", "vectorized"):
        with pytest.raises(PlanError, match=f"compilation: {way} does not take dp_sgd"):
            KerasEngine(Mlp(), (FEATURES,), 3, way).prepare(work())
