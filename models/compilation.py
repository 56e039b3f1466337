"""How local training is compiled: a fixed rule by kind of layer and size, so that a plan always gives the same bits."""

from __future__ import annotations

from typing import Literal

import keras

from federated.errors import PlanError
from models.architecture import Asked
from models.layout import Layout

Compilation = Literal["graph", "xla", "vectorized"]

# XLA fuses what stands between matrix products; its convolutions are many times slower on a CPU than TensorFlow's.
_DENSE = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Dropout", "Add", "Dot", "Embedding")
_WORTH_COMPILING = 50_000  # parameters: below, a program takes longer to compile than it saves


def compilation(asked: Asked, model: keras.Model, layout: Layout) -> Compilation:
    """``asked``; or for ``auto`` a plain graph, but for models of dense layers.

    Small ones train several clients at once; large ones, and those with dropout, one after the other by XLA.

    Raises:
        PlanError: what is asked for pads batches, which the model would see, or takes a model without dropout.
    """
    padding, random = _sees_padding(model, layout), layout.states > 0
    if asked != "auto":
        if asked != "graph" and padding:
            raise PlanError(
                f"compilation: {asked} pads batches, which moving statistics and activity regularizers would see; "
                "use graph"
            )
        if asked == "vectorized" and random:
            raise PlanError("compilation: vectorized takes no dropout nor other randomness in the model; use graph")
        return asked
    dense = all(type(layer).__name__ in _DENSE for layer in layers(model))
    if padding or not dense:
        return "graph"
    if layout.size >= _WORTH_COMPILING:
        return "xla"
    return "graph" if random else "vectorized"


def _sees_padding(model: keras.Model, layout: Layout) -> bool:
    return layout.trainable < layout.size or any(
        getattr(layer, "activity_regularizer", None) is not None for layer in layers(model)
    )


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer, inner models' included."""
    return list(model._flatten_layers(include_self=False))
