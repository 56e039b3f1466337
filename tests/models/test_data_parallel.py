"""Devices that train one client together take the steps that one of them would."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pytest

from federated.data import Split
from federated.errors import PlanError
from federated.local_optimizers import Adam, Sgd
from federated.local_training import LocalTraining
from models.architecture import Model, output_units
from models.compilation import compilation
from models.data_parallel import DataParallel
from models.devices import Devices
from models.gradients import MeanGradient
from models.keras_engine import KerasEngine
from models.layout import Layout
from models.objectives import objective
from models.specs import Cnn, CustomModel, Logistic, Mlp
from tests.models.logical_devices import devices_of, run_with

SLOW = pytest.mark.slow
FEATURES, CLASSES, ROWS = 6, 3, 21
SGD = LocalTraining(epochs=2, batch_size=8, optimizer=Sgd(learning_rate=0.1, momentum=0.9))


def dropping(inputs, classes):
    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(output_units(classes))]
    return keras.Sequential([keras.Input(inputs), *layers])


def penalised(inputs, classes):
    layers = [
        keras.layers.Dense(5, "relu", kernel_regularizer="l2", activity_regularizer="l2"),
        keras.layers.Dense(output_units(classes)),
    ]
    return keras.Sequential([keras.Input(inputs), *layers])


def normalised(inputs, classes):
    layers = [keras.layers.BatchNormalization(), keras.layers.Dense(output_units(classes))]
    return keras.Sequential([keras.Input(inputs), *layers])


def own(name: str) -> CustomModel:
    return CustomModel(target=f"{__name__}:{name}")


CASES: dict[str, tuple[Model, tuple[int, ...], LocalTraining]] = {
    "mlp": (Mlp(hidden=(8,)), (FEATURES,), SGD),
    "cnn": (Cnn(filters=(2, 3), hidden=4), (8, 8, 1), SGD),
    "adam": (Mlp(hidden=(8,)), (FEATURES,), LocalTraining(batch_size=6, optimizer=Adam(learning_rate=0.01))),
    "fewer rows than devices": (Mlp(hidden=(8,)), (FEATURES,), LocalTraining(batch_size=2)),
    "one row at a time": (Mlp(hidden=(8,)), (FEATURES,), LocalTraining(batch_size=1)),
    "clipped": (Mlp(hidden=(8,)), (FEATURES,), SGD.model_copy(update={"clip_examples": 0.1})),
    "clipped and dropping": (own("dropping"), (FEATURES,), SGD.model_copy(update={"clip_examples": 0.1})),
    "penalised": (own("penalised"), (FEATURES,), SGD),
}


def rows_of(inputs: tuple[int, ...], rows: int = ROWS) -> Split:
    rng = np.random.default_rng(rows)
    return Split(rng.normal(size=(rows, *inputs)).astype(np.float32), rng.integers(0, CLASSES, rows).astype(np.int32))


FEW = ("mlp", "clipped")
"""Cases of the short form."""

each_case = pytest.mark.parametrize("name", [name if name in FEW else pytest.param(name, marks=SLOW) for name in CASES])


def save_everything(path: str, names: Sequence[str]) -> None:
    """What a process with three devices finds out."""
    found = {}
    for name in names:
        spec, inputs, work = CASES[name]
        for replicas in (1, 2, 3):
            one = KerasEngine(spec, inputs, CLASSES, "graph", replicas=replicas)
            for turn in ("first", "again"):
                fitted = one.fit(one.init(0), rows_of(inputs), work, np.random.default_rng(1))
                found[f"{name} {replicas} {turn}"] = fitted.params
                found[f"{name} {replicas} {turn} loss"] = np.array(fitted.metrics["train_loss"])
    np.savez(path, **found)


EVERYTHING = """
from tests.models.test_data_parallel import save_everything
save_everything({path!r}, {names!r})
"""


@cache
def found_among(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    with TemporaryDirectory() as folder:
        path = f"{folder}/found.npz"
        run_with(3, EVERYTHING.format(path=path, names=names))
        with np.load(path) as arrays:
            return dict(arrays)


def found_of(name: str) -> dict[str, np.ndarray]:
    """What a process found, which looked at this case and at others."""
    return found_among(FEW if name in FEW else tuple(other for other in CASES if other not in FEW))


@pytest.mark.parametrize("replicas", [2, 3])
@each_case
def test_together_they_take_the_steps_that_one_would(name, replicas):
    found = found_of(name)
    np.testing.assert_allclose(found[f"{name} {replicas} first"], found[f"{name} 1 first"], rtol=0, atol=1e-5)
    loss, alone = (found[f"{name} {count} first loss"] for count in (replicas, 1))
    np.testing.assert_allclose(loss, alone, rtol=1e-5)


@each_case
def test_training_moves_further_than_the_agreement_asked_for(name):
    spec, inputs, _ = CASES[name]
    start = KerasEngine(spec, inputs, CLASSES, "graph").init(0)
    assert np.abs(found_of(name)[f"{name} 1 first"] - start).max() > 5e-3


@pytest.mark.parametrize("replicas", [1, 2, 3])
@each_case
def test_together_they_give_the_same_bits_again(name, replicas):
    found = found_of(name)
    for what in ("", " loss"):
        assert np.array_equal(found[f"{name} {replicas} again{what}"], found[f"{name} {replicas} first{what}"])


PLACED = """
import numpy as np
from federated.local_training import LocalTraining
from models.keras_engine import KerasEngine
from models.specs import Logistic
from tests.models.test_data_parallel import rows_of
one = KerasEngine(Logistic(), (6,), 3, replicas=2)
print("groups", len(one._devices.groups), one.compilation)
with one._turns.taken():  # the first two devices are busy
    one.fit(one.init(0), rows_of((6,)), LocalTraining(batch_size=8), np.random.default_rng(0))
"""


@cache
def placed():
    return run_with(5, PLACED)


def test_every_device_of_the_group_computes_gradients_and_no_other_does():
    assert devices_of("MatMul", placed()) == {2, 3}


def test_five_devices_are_two_groups_of_two_whose_training_is_a_graph():
    assert "groups 2 graph" in placed().stdout.splitlines()


SIDE_BY_SIDE = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from federated.updates import digest
from models.keras_engine import KerasEngine
from tests.models.test_data_parallel import CASES, rows_of
spec, inputs, work = CASES["cnn"]
one = KerasEngine(spec, inputs, 3, replicas=2, precision="mixed_bfloat16")
def train(rows):
    return digest(one.fit(one.init(0), rows_of(inputs, rows), work, np.random.default_rng(rows)).params)
sizes = [5, 8, 9, 16, 21, 30] * 2
with ThreadPoolExecutor(5) as pool:
    together = list(pool.map(train, sizes))
print("same" if together == [train(rows) for rows in sizes] else "different")
print("loops", len(one._loops), {loop._run.experimental_get_tracing_count() for loop in one._loops.values()})
"""


@pytest.mark.slow
def test_clients_side_by_side_on_two_groups_give_the_bits_that_each_gives_alone():
    """More at a time than there are groups, and with layers in 16 bits."""
    done = run_with(4, SIDE_BY_SIDE)
    assert "same" in done.stdout.splitlines()
    assert "loops 2 {1}" in done.stdout.splitlines()
    assert devices_of("Conv2D", done) == {0, 1, 2, 3}


def model_and_layout(spec: Model) -> tuple[keras.Model, Layout]:
    model = spec.build((FEATURES,), CLASSES)
    return model, Layout(model)


def test_batch_normalisation_is_refused():
    model, layout = model_and_layout(own("normalised"))
    gradients = MeanGradient(model, objective(CLASSES))
    with pytest.raises(PlanError, match="replicas: the model has weights that no gradient moves"):
        DataParallel(gradients, layout, ["/device:CPU:0"])


def test_padded_batches_are_refused():
    model, layout = model_and_layout(Logistic())
    gradients = DataParallel(MeanGradient(model, objective(CLASSES)), layout, ["/device:CPU:0"])
    with pytest.raises(ValueError, match="batches of their true size, got padded ones"):
        gradients([], [], np.zeros((2, FEATURES)), np.zeros(2), np.ones(2))


def test_xla_is_refused_and_never_chosen():
    model, layout = model_and_layout(Mlp(hidden=(5000,)))
    alone, together = (Devices("gpu", (names,)) for names in (("one",), ("one", "two")))
    assert compilation("auto", model, layout, alone) == "xla"
    assert compilation("auto", model, layout, together) == "graph"
    with pytest.raises(PlanError, match="compilation: xla is for one device, but replicas is 2"):
        compilation("xla", model, layout, together)


def test_replicas_that_are_not_there_are_refused_before_anything_is_built():
    with pytest.raises(PlanError, match="replicas: 64 devices are to train one client together, but TensorFlow sees"):
        KerasEngine(own("nowhere"), (FEATURES,), CLASSES, replicas=64)
