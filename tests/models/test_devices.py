"""Every device is used, and no number of them changes a bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache

import keras
import numpy as np
import pytest
import tensorflow as tf

from federated.data import Split
from federated.errors import PlanError
from federated.local_training import LocalTraining
from federated.updates import digest
from models.architecture import Model
from models.devices import Turns, chosen, off_cudnn, prepare_devices
from models.keras_engine import KerasEngine
from models.specs import Cnn, CustomModel, Gru, Lstm, Mlp
from tests.models.logical_devices import devices_of, run_with

CPUS, GPUS = ["cpu-0", "cpu-1"], [f"gpu-{number}" for number in range(5)]
KINDS: dict[str, tuple[Model, tuple[int, ...], str]] = {
    "mlp": (Mlp(hidden=(8,)), (6,), "graph"),
    "cnn": (Cnn(filters=(2, 3), hidden=4), (8, 8, 1), "graph"),
    "gru": (Gru(units=3), (5,), "graph"),
    "xla": (Mlp(hidden=(8,)), (6,), "xla"),
}
SIZES, WORK = [5, 8, 21], LocalTraining(epochs=2, batch_size=8)


# Which


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [("auto", GPUS, "gpu"), ("auto", [], "cpu"), ("cpu", GPUS, "cpu"), ("cpu", [], "cpu"), ("gpu", GPUS, "gpu")],
)
def test_all_devices_of_a_type_train_and_auto_means_gpus_where_there_are_any(asked, gpus, expected):
    found = chosen(asked, 1, CPUS, gpus)
    assert found.type == expected
    assert found.groups == tuple((name,) for name in (GPUS if expected == "gpu" else CPUS))


def test_replicas_train_in_groups_of_neighbours_and_what_is_left_over_waits():
    assert chosen("gpu", 2, CPUS, GPUS).groups == (("gpu-0", "gpu-1"), ("gpu-2", "gpu-3"))
    assert chosen("gpu", 5, CPUS, GPUS).groups == (tuple(GPUS),)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(PlanError) as refusal:
        chosen("gpu", 1, CPUS, [])
    assert str(refusal.value) == (
        "device: gpu, but TensorFlow sees no GPU here; use auto or cpu, or install roundhouse[gpu]"
    )


def test_more_replicas_than_devices_are_refused():
    with pytest.raises(PlanError, match=r"replicas: 3 devices .* one client together, but TensorFlow sees 2 CPU"):
        chosen("auto", 3, CPUS, [])


def test_memory_growth_is_asked_of_every_gpu_and_a_gpu_that_is_cut_up_stays_so(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def set_memory_growth(gpu: str, on: bool) -> None:
        asked.append((gpu, on))
        raise ValueError("Cannot set memory growth on device when virtual devices configured")

    monkeypatch.setattr(tf.config, "list_physical_devices", {"GPU": ["first", "second"]}.get)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", set_memory_growth)
    prepare_devices()
    assert asked == [("first", True), ("second", True)]


@pytest.mark.parametrize("spec", [Gru(units=2), Lstm(units=2)])
def test_off_a_gpu_recurrent_layers_do_not_reach_for_one(spec: Model):
    model = spec.build((3,), 2)
    (recurrent,) = [layer for layer in model.layers if hasattr(layer, "use_cudnn")]
    assert recurrent.use_cudnn == "auto"
    off_cudnn(model)
    assert recurrent.use_cudnn is False


# Whose turn


def test_the_least_busy_trains_next_and_the_first_of_those():
    turns = Turns(2)
    with turns.taken() as first, turns.taken() as second:
        with turns.taken() as third, turns.taken() as fourth:
            assert (first, second, third, fourth) == (0, 1, 0, 1)
        with turns.taken() as fifth:
            assert fifth == 0
    with turns.taken() as sixth:
        assert sixth == 0


def test_a_training_that_fails_gives_its_device_back():
    turns = Turns(2)
    with pytest.raises(RuntimeError), turns.taken():
        raise RuntimeError
    with turns.taken() as next_one:
        assert next_one == 0


def test_turns_taken_from_many_threads_are_even():
    turns = Turns(3)
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: stack.enter_context(turns.taken()), range(300)))
    assert np.bincount(numbers).tolist() == [100, 100, 100]


# That it makes no difference


def rows_of(size: int, inputs: tuple[int, ...]) -> Split:
    rng = np.random.default_rng(size)
    return Split(rng.normal(size=(size, *inputs)).astype(np.float32), rng.integers(0, 3, size).astype(np.int32))


def trained(one: KerasEngine, size: int, inputs: tuple[int, ...]) -> str:
    rows = rows_of(size, inputs)
    return digest(one.fit(one.init(0), rows, WORK, np.random.default_rng(size)).params)


def on_each_device(one: KerasEngine, inputs: tuple[int, ...]) -> Iterator[str]:
    """The same training on one device after the other: those before are kept busy."""
    with ExitStack() as busy:
        for _ in one._devices.groups:
            yield trained(one, SIZES[-1], inputs)
            busy.enter_context(one._turns.taken())


def everything() -> dict[str, object]:
    """What a process with several devices finds out."""
    found: dict[str, object] = {}
    for name, (spec, inputs, how) in KINDS.items():
        one = KerasEngine(spec, inputs, 3, how)
        found[f"{name} on each"] = list(on_each_device(one, inputs))
        with ThreadPoolExecutor(4) as pool:
            found[f"{name} side by side"] = list(pool.map(lambda size: trained(one, size, inputs), SIZES))  # noqa: B023
        found[f"{name} scores"] = digest(one.score(one.init(0), rows_of(9, inputs))["loss"])
        (loop,) = one._loops.values()
        found[f"{name} traces"] = loop._run.experimental_get_tracing_count()
        found["device"] = one.device
    return found


EVERYTHING = """
import json
from tests.models.test_devices import everything
print("found", json.dumps(everything()))
"""


@cache
def found_with(devices: int) -> tuple[dict[str, list[str]], set[int]]:
    """What a process with so many devices found, and the devices on which it multiplied matrices."""
    done = run_with(devices, EVERYTHING)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    return json.loads(line.removeprefix("found ")), devices_of("MatMul", done)


several = pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])


@several
@pytest.mark.parametrize("name", KINDS)
def test_devices_give_the_bits_that_one_gives(name, count):
    one, many = found_with(1)[0], found_with(count)[0]
    for what in ("side by side", "scores"):
        assert one[f"{name} {what}"] == many[f"{name} {what}"]
    (alone,) = one[f"{name} on each"]
    assert many[f"{name} on each"] == [alone] * count


@several
def test_every_device_trains(count):
    found, used = found_with(count)
    assert used == set(range(count))
    assert found["device"] == "cpu"


@several
@pytest.mark.parametrize("name", KINDS)
def test_a_program_is_traced_once_for_all_devices(name, count):
    assert found_with(count)[0][f"{name} traces"] == found_with(1)[0][f"{name} traces"]


DETERMINISTIC = """
tf.config.experimental.enable_op_determinism()
from tests.models.test_devices import dropping_out_twice
print(*dropping_out_twice())
"""


def with_dropout(inputs, classes):
    shaped = [
        keras.layers.Reshape((5, 1)),
        keras.layers.LSTM(4),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(classes),
    ]
    return keras.Sequential([keras.Input(inputs), *shaped])


def dropping_out_twice() -> list[str]:
    one = KerasEngine(CustomModel(target=f"{__name__}:with_dropout"), (5,), 3)
    return list(on_each_device(one, (5,)))


def test_training_asks_for_nothing_that_deterministic_operations_refuse():
    """They are what training on GPUs uses: with them TensorFlow refuses, for one, random numbers without a seed."""
    first, second = run_with(2, DETERMINISTIC).stdout.split()[-2:]
    assert first == second
    assert len(first) == 64
