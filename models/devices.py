"""The devices that train: which there are, which a plan asks for, and whose turn it is."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from federated.errors import PlanError
from models.architecture import AskedDevice, DeviceType, layers

HOST = "/device:CPU:0"
"""Where models and optimizers are built: their first weights are then the same for every type of device."""


class Devices(NamedTuple):
    """Devices of one type, in groups: those of a group train one client together."""

    type: DeviceType
    groups: tuple[tuple[str, ...], ...]


def prepare_devices() -> None:
    """One thread an operation, so that bits do not depend on the number of cores; GPU memory as needed.

    Clients run side by side instead. Where TensorFlow has already started, its settings stay as they are.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError, ValueError):  # a GPU that its user has cut up stays so
            tf.config.experimental.set_memory_growth(gpu, True)


def devices(asked: AskedDevice, replicas: int) -> Devices:
    """The devices that train, of those that TensorFlow sees. On GPUs operations are made to give the same bits again.

    Raises:
        PlanError: there is none of the type that is asked for, or fewer than ``replicas``.
    """
    found = chosen(asked, replicas, _names("CPU"), _names("GPU"))
    if found.type == "gpu":
        tf.config.experimental.enable_op_determinism()
    return found


def chosen(asked: AskedDevice, replicas: int, cpus: Sequence[str], gpus: Sequence[str]) -> Devices:
    """``replicas`` devices a group, of the type asked for; for ``auto`` GPUs where there are any.

    Raises:
        PlanError: there are too few.
    """
    if asked == "gpu" and not gpus:
        raise PlanError("device: gpu, but TensorFlow sees no GPU here; use auto or cpu, or install roundhouse[gpu]")
    found: DeviceType = "gpu" if gpus and asked != "cpu" else "cpu"
    names = gpus if found == "gpu" else cpus
    if replicas > len(names):
        raise PlanError(
            f"replicas: {replicas} devices are to train one client together, but TensorFlow sees {len(names)} "
            f"{found.upper()} here; lower replicas, or train where there are more"
        )
    starts = range(0, len(names) - replicas + 1, replicas)
    return Devices(found, tuple(tuple(names[start : start + replicas]) for start in starts))


def off_cudnn(model: keras.Model) -> None:
    """Keras gives recurrent layers a GPU's operations wherever a GPU is visible; this model trains without one."""
    for layer in layers(model):
        if getattr(layer, "use_cudnn", None) == "auto":
            layer.use_cudnn = False


class Turns:
    """Which of ``count`` groups trains next: that with the fewest trainings on it, the first of them. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._busy, self._lock = [0] * count, threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[int]:
        """The number of a group, which counts as busy until the end."""
        with self._lock:
            group = self._busy.index(min(self._busy))
            self._busy[group] += 1
        try:
            yield group
        finally:
            with self._lock:
                self._busy[group] -= 1


def _names(kind: str) -> list[str]:
    return [device.name for device in tf.config.list_logical_devices(kind)]
