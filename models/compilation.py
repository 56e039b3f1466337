"""How local training is compiled: a fixed rule by kind of layer and size, so that a plan always gives the same bits."""

from __future__ import annotations

from typing import Literal

import keras

from federated.errors import PlanError
from models.architecture import Asked
from models.devices import Devices
from models.layout import Layout

Compilation = Literal["graph", "xla"]

# XLA fuses what stands between matrix products; its convolutions are many times slower on a CPU than TensorFlow's.
_DENSE = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Dropout", "Add", "Dot", "Embedding")
_FOR_XLA = {"cpu": _DENSE, "gpu": _DENSE}  # of GPUs nothing is measured yet
_WORTH_COMPILING = 50_000  # parameters: below, a program takes longer to compile than it saves


def compilation(asked: Asked, model: keras.Model, layout: Layout, devices: Devices) -> Compilation:
    """``asked``, or for ``auto`` XLA for large models of dense layers and a plain graph for all others.

    XLA compiles for one device: where several train one client together, it is always a graph.

    Raises:
        PlanError: XLA is asked for, and the model would see the padding of its batches, or devices train together.
    """
    together = len(devices.groups[0])
    if asked == "xla" and together > 1:
        raise PlanError(f"compilation: xla compiles for one device, but replicas is {together}; use graph or auto")
    if asked == "graph" or together > 1:
        return "graph"
    sees_padding = layout.trainable < layout.size or any(
        getattr(layer, "activity_regularizer", None) is not None for layer in layers(model)
    )
    if asked == "xla":
        if sees_padding:
            raise PlanError(
                "compilation: xla pads batches, which moving statistics and activity regularizers would see; use graph"
            )
        return "xla"
    dense = all(type(layer).__name__ in _FOR_XLA[devices.type] for layer in layers(model))
    return "xla" if dense and not sees_padding and layout.size >= _WORTH_COMPILING else "graph"


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer, inner models' included."""
    return list(model._flatten_layers(include_self=False))
