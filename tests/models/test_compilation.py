"""A plain graph or XLA: which, and that it makes no difference but for rounding."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from federated.data import Split
from federated.engine import AS_ASKED, Terms
from federated.errors import PlanError
from federated.local_optimizers import Adam, AnyLocalOptimizer, Sgd
from federated.local_training import LocalTraining
from models.architecture import Model, output_units
from models.keras_engine import KerasEngine
from models.local_step import rounded_up
from models.specs import Cnn, CustomModel, Gru, Linear, Logistic, Lstm, Mlp, Recommender
from tests.models.samples import classified, valued, weights

IMAGE = (28, 28, 1)
TWO_NN = Mlp(hidden=(200, 200))


def fitted(compile: str, data: Split, work: LocalTraining, spec: Model, classes: int | None = 4, seed: int = 3):
    engine = KerasEngine(spec, data.x.shape[1:], classes, compile)
    return engine.fit(weights(engine.size) / 4, data, work, np.random.default_rng(seed))


# Which


def with_normalisation(inputs, classes):
    layers = [keras.layers.Dense(300), keras.layers.BatchNormalization(), keras.layers.Dense(output_units(classes))]
    return keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *layers])


def with_activity(inputs, classes):
    layers = [keras.layers.Dense(300, activity_regularizer="l2"), keras.layers.Dense(output_units(classes))]
    return keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *layers])


def with_dropout(inputs, classes):
    layers = [keras.layers.Dense(300, "relu"), keras.layers.Dropout(0.4), keras.layers.Dense(output_units(classes))]
    return keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *layers])


def with_batch_mean(inputs, classes):
    """What Keras calls an operation, beside its layers: each example sees all others of its batch."""
    rows = keras.Input(inputs)
    hidden = keras.layers.Dense(4)(keras.layers.Flatten()(rows))
    centred = hidden - keras.ops.mean(hidden, axis=0, keepdims=True)
    return keras.Model(rows, keras.layers.Dense(output_units(classes))(centred))


class Halved(keras.Sequential):
    def call(self, rows, **given):
        return super().call(rows, **given) / 2


def with_a_call_of_its_own(inputs, classes):
    """Its layers say only half of what it does."""
    return Halved([keras.Input(inputs), keras.layers.Dense(output_units(classes))])


def own(name: str) -> CustomModel:
    return CustomModel(target=f"{__name__}:{name}")


@pytest.mark.parametrize(
    ("spec", "inputs", "expected"),
    [
        (TWO_NN, IMAGE, "xla"),
        (own("with_dropout"), IMAGE, "xla"),
        (Recommender(users=3000, items=2000), (2,), "xla"),
        (Mlp(hidden=(64,)), (8, 8, 1), "vectorized"),
        (Logistic(), IMAGE, "vectorized"),
        (Cnn(), IMAGE, "graph"),
        (Gru(units=6), (9, 4), "xla"),
        (Lstm(units=6, vocabulary=9), (9,), "xla"),
        (own("with_normalisation"), IMAGE, "graph"),
        (own("with_activity"), IMAGE, "graph"),
        (own("with_batch_mean"), IMAGE, "graph"),
        (own("with_a_call_of_its_own"), (5,), "graph"),
    ],
    ids=lambda value: value.kind if isinstance(value, Model) else str(value),
)
def test_models_of_dense_layers_go_by_their_size_and_all_others_by_a_plain_graph(
    spec: Model, inputs: tuple[int, ...], expected: str
) -> None:
    assert KerasEngine(spec, inputs, 2).compilation == expected


@pytest.mark.parametrize("asked", ["graph", "xla", "vectorized"])
def test_a_plan_may_say_which(asked: str) -> None:
    assert KerasEngine(Mlp(hidden=(3,)), (5,), 3, asked).compilation == asked
    assert KerasEngine(TWO_NN, IMAGE, 10, asked).compilation == asked


@pytest.mark.parametrize("asked", ["xla", "vectorized"])
@pytest.mark.parametrize("name", ["with_normalisation", "with_activity", "with_batch_mean"])
def test_padding_is_refused_where_the_model_would_see_it(name: str, asked: str) -> None:
    with pytest.raises(PlanError, match=rf"compilation: {asked} pads batches, .*; use graph"):
        KerasEngine(own(name), (5,), 3, asked)


@pytest.mark.parametrize("name", ["with_dropout", "with_a_call_of_its_own"])
def test_what_is_not_dense_layers_alone_is_not_vectorized(name: str) -> None:
    with pytest.raises(PlanError, match=r"compilation: vectorized takes models of Flatten, .* layers only; use graph"):
        KerasEngine(own(name), (5,), 3, "vectorized")


# That it makes no difference


SGD, MOMENTUM, ADAM = (
    Sgd(learning_rate=0.1),
    Sgd(momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(clipnorm=0.5),
)


@pytest.mark.parametrize("how", ["xla", "vectorized"])
@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "optimizer"),
    [
        (1, 1, 1, SGD),
        (37, 5, 3, SGD),
        (37, 5, 3, MOMENTUM),
        (37, 5, 3, ADAM),
        (8, None, 2, SGD),
        (5, 16, 4, MOMENTUM),
        (64, 16, 1, ADAM),
        (9, 9, 2, SGD),
        (10, 3, 1, ADAM),
    ],
)
def test_padding_counts_for_nothing(
    rows: int, batch: int | None, epochs: int, optimizer: AnyLocalOptimizer, how: str
) -> None:
    data, spec = classified(rows, 6, 4), Mlp(hidden=(7,))
    work = LocalTraining(epochs=epochs, batch_size=batch, optimizer=optimizer)
    graph, padded = (fitted(how, data, work, spec) for how in ("graph", how))
    np.testing.assert_allclose(padded.params, graph.params, atol=2e-6)
    assert padded.metrics == pytest.approx(graph.metrics, rel=1e-5)


def test_regression_is_padded_too() -> None:
    work = LocalTraining(epochs=3, batch_size=4, optimizer=Sgd(learning_rate=0.05))
    graph, xla = (fitted(how, valued(11, 5), work, Linear(), None) for how in ("graph", "xla"))
    np.testing.assert_allclose(xla.params, graph.params, atol=2e-6)


def test_dropout_follows_from_the_seed_under_xla() -> None:
    work, data = LocalTraining(epochs=2, batch_size=8), classified(30, 6, 4)
    once, again, other = (fitted("xla", data, work, own("with_dropout"), seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(once.params, again.params)
    assert not np.array_equal(once.params, other.params)


# What it costs


def traces(engine: KerasEngine, work: LocalTraining) -> int:
    return engine._loop(work, AS_ASKED)._run.experimental_get_tracing_count()


@pytest.mark.parametrize(("compile", "most"), [("graph", 1), ("xla", 20), ("vectorized", 1)])
def test_a_hundred_clients_of_a_hundred_sizes_are_compiled_a_few_times(compile: str, most: int) -> None:
    engine, work = KerasEngine(Logistic(), (3,), 3, compile), LocalTraining(batch_size=10)
    start = engine.init(0)
    for rows in range(1, 101):
        engine.fit(start, classified(rows, 3, 3), work, np.random.default_rng(0))
    assert traces(engine, work) <= most


@pytest.mark.parametrize("count", [*range(1, 70), 100, 1000, 65_537])
def test_sizes_are_rounded_up_by_half_at_most(count: int) -> None:
    assert count <= rounded_up(count) <= max(1.5 * count, 1)
    assert rounded_up(rounded_up(count)) == rounded_up(count)


def test_there_are_two_sizes_an_octave() -> None:
    assert sorted({rounded_up(count) for count in range(1, 1025)}) == sorted(
        {1 << power for power in range(11)} | {3 << power for power in range(9)}
    )


def test_clients_that_do_less_than_others_need_no_programs_of_their_own() -> None:
    engine, work = KerasEngine(Logistic(), (3,), 3, "xla"), LocalTraining(batch_size=10, epochs=5)
    start = engine.init(0)
    for steps in range(1, 51, 7):
        engine.fit(start, classified(100, 3, 3), work, np.random.default_rng(0), Terms(steps=steps))
    assert traces(engine, work) == 1
