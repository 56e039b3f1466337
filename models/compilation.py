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
_FOR_LANES = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Add")
_WORTH_COMPILING = 50_000  # parameters: below, a program takes longer to compile than it saves


def compilation(asked: Asked, model: keras.Model, layout: Layout) -> Compilation:
    """``asked``; or for ``auto`` a plain graph, but for models of dense layers.

    Small ones train several clients at once; large ones one after the other by XLA.

    Raises:
        PlanError: what is asked for pads batches, which the model would see, or takes no such model.
    """
    sees_padding = layout.trainable < layout.size or any(
        getattr(layer, "activity_regularizer", None) is not None for layer in layers(model)
    )
    if asked in ("xla", "vectorized") and sees_padding:
        raise PlanError(
            f"compilation: {asked} pads batches, which moving statistics and activity regularizers would see; use graph"
        )
    if asked == "vectorized" and not _is_of(model, _FOR_LANES):
        raise PlanError(f"compilation: vectorized takes models of {', '.join(_FOR_LANES[1:])} layers only; use graph")
    if asked != "auto":
        return asked
    if sees_padding or not _is_of(model, _DENSE):
        return "graph"
    if layout.size >= _WORTH_COMPILING:
        return "xla"
    return "vectorized" if _is_of(model, _FOR_LANES) else "graph"


def _is_of(model: keras.Model, kinds: tuple[str, ...]) -> bool:
    return all(type(layer).__name__ in kinds for layer in layers(model))


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer, inner models' included."""
    return list(model._flatten_layers(include_self=False))
