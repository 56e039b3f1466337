"""How local training is compiled: a fixed rule by kind of layer and size, so that a plan always gives the same bits."""

from __future__ import annotations

from typing import Literal

import keras

from federated.errors import PlanError
from models.architecture import Asked
from models.devices import Devices
from models.layout import Layout

Compilation = Literal["graph", "xla", "vectorized"]

# XLA fuses what stands between matrix products; its convolutions are many times slower on a CPU than TensorFlow's.
_DENSE = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Dropout", "Add", "Dot", "Embedding")
_STACKED = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Add")
_FOR_XLA = {"cpu": _DENSE, "gpu": _DENSE}  # of GPUs nothing is measured yet
_FOR_LANES = {"cpu": _STACKED, "gpu": ()}
_WORTH_COMPILING = 50_000  # parameters: below, a program takes longer to compile than it saves


def compilation(asked: Asked, model: keras.Model, layout: Layout, devices: Devices) -> Compilation:
    """``asked``; or for ``auto`` a plain graph, but for models of dense layers.

    Small ones train several clients at once, large ones one after the other by XLA. Where several devices train one
    client together, it is always a graph.

    Raises:
        PlanError: what is asked for pads batches, which the model would see; takes no such model; or takes one device.
    """
    together = len(devices.groups[0])
    sees_padding = layout.trainable < layout.size or any(
        getattr(layer, "activity_regularizer", None) is not None for layer in layers(model)
    )
    if asked in ("xla", "vectorized"):
        _check(asked, model, together, sees_padding)
    if asked != "auto":
        return asked
    if together > 1 or sees_padding:
        return "graph"
    if layout.size >= _WORTH_COMPILING and _is_of(model, _FOR_XLA[devices.type]):
        return "xla"
    return "vectorized" if layout.size < _WORTH_COMPILING and _is_of(model, _FOR_LANES[devices.type]) else "graph"


def _check(asked: Asked, model: keras.Model, together: int, sees_padding: bool) -> None:
    if together > 1:
        raise PlanError(f"compilation: {asked} is for one device, but replicas is {together}; use graph or auto")
    if sees_padding:
        raise PlanError(
            f"compilation: {asked} pads batches, which moving statistics and activity regularizers would see; use graph"
        )
    if asked == "vectorized" and not _is_of(model, _STACKED):
        raise PlanError(f"compilation: vectorized takes models of {', '.join(_STACKED[1:])} layers only; use graph")


def _is_of(model: keras.Model, kinds: tuple[str, ...]) -> bool:
    return all(type(layer).__name__ in kinds for layer in layers(model))


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer, inner models' included."""
    return list(model._flatten_layers(include_self=False))
