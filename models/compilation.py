"""How local training is compiled: a fixed rule by kind of layer and size, so that a plan always gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import keras

from federated.errors import PlanError
from federated.local_training import LocalTraining
from models.architecture import Asked, graph_of, layers
from models.devices import Devices
from models.layout import Layout

Compilation = Literal["graph", "xla", "vectorized"]

# XLA fuses what stands between matrix products; its convolutions are many times slower on a CPU than TensorFlow's.
_DENSE = (
    "InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Dropout", "Add", "Dot", "Embedding", "GetItem"
)  # fmt: skip
_STACKED = ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Add")
_BY_ROW = ("GetItem",)  # operations beside layers that treat every example by itself
_RECURRENT = ("LSTM", "LSTMCell", "GRU", "GRUCell", "SimpleRNN", "SimpleRNNCell")
_FOR_XLA = {"cpu": _DENSE + _RECURRENT, "gpu": _DENSE}  # of GPUs nothing is measured yet
_FOR_LANES = {"cpu": _STACKED, "gpu": ()}
_WORTH_COMPILING = 50_000  # parameters: below, a program takes longer to compile than it saves

# They treat every weight by itself, or sum over whole weights. Others sum over rows and columns, in an order that
# follows from where in memory a client's weights begin.
_OPTIMIZERS_FOR_LANES = ("sgd", "rmsprop", "adam", "adamw", "adamax", "nadam", "lion", "adagrad", "adadelta", "ftrl")


def compilation(asked: Asked, model: keras.Model, layout: Layout, devices: Devices) -> Compilation:
    """``asked``; or for ``auto`` a plain graph, but for models of dense or recurrent layers.

    Small dense ones train several clients at once; large and recurrent ones one after the other by XLA. Where several
    devices train one client together, it is always a graph.

    Raises:
        PlanError: what is asked for pads batches, which the model would see; takes no such model; or takes one device.
    """
    together, sees_padding = len(devices.groups[0]), _sees_padding(model, layout)
    if asked in ("xla", "vectorized"):
        _check(asked, model, together, sees_padding)
    if asked != "auto":
        return asked
    if together > 1 or sees_padding:
        return "graph"
    if (layout.size >= _WORTH_COMPILING or _is_recurrent(model)) and _is_of(model, _FOR_XLA[devices.type]):
        return "xla"
    return "vectorized" if layout.size < _WORTH_COMPILING and _is_of(model, _FOR_LANES[devices.type]) else "graph"


def compilation_for(work: LocalTraining, asked: Asked, found: Compilation, model: keras.Model) -> Compilation:
    """``found``, or a plain graph where it does not take what clients do.

    Raises:
        PlanError: it is asked for.
    """
    clips, kind = work.clip_examples is not None, work.optimizer.kind
    refused = ""
    if found != "graph" and work.dp_sgd is not None:
        refused = "dp_sgd"
    elif found == "vectorized" and (clips or kind not in _OPTIMIZERS_FOR_LANES):
        refused = "clip_examples" if clips else f"the optimizer {kind}"
    elif found == "xla" and clips and _is_recurrent(model):
        refused = "clip_examples with recurrent layers"
    if refused and asked == found:
        raise PlanError(f"compilation: {found} does not take {refused}; use graph or auto")
    return "graph" if refused else found


def _check(asked: Asked, model: keras.Model, together: int, sees_padding: bool) -> None:
    if together > 1:
        raise PlanError(f"compilation: {asked} is for one device, but replicas is {together}; use graph or auto")
    if sees_padding:
        raise PlanError(
            f"compilation: {asked} pads batches, which moving statistics, activity regularizers and operations over "
            "the batch would see, and takes no frozen layers; use graph"
        )
    if asked == "vectorized" and not _is_of(model, _STACKED):
        raise PlanError(f"compilation: vectorized takes models of {', '.join(_STACKED[1:])} layers only; use graph")


def _sees_padding(model: keras.Model, layout: Layout) -> bool:
    """Whether an example may see the rest of its batch. What layers of a user's own do is theirs to know."""
    regularized = any(getattr(layer, "activity_regularizer", None) is not None for layer in layers(model))
    return layout.trainable < layout.size or regularized or any(name not in _BY_ROW for name in _operations(model))


def _is_of(model: keras.Model, kinds: tuple[str, ...]) -> bool:
    """Whether all that a model does are layers and operations of these kinds."""
    if graph_of(model) is None:
        return False
    return all(type(layer).__name__ in kinds for layer in layers(model)) and not set(_operations(model)) - set(kinds)


def _is_recurrent(model: keras.Model) -> bool:
    return any(type(layer).__name__ in _RECURRENT for layer in layers(model))


def loops_over_embeddings(model: keras.Model) -> bool:
    """Whether a recurrent layer takes what an embedding may have given."""
    return _is_recurrent(model) and any(isinstance(layer, keras.layers.Embedding) for layer in layers(model))


def _operations(model: keras.Model) -> Iterator[str]:
    """The kinds of operations that stand beside layers in a functional model, inner models' included."""
    for operation in getattr(model, "operations", ()):
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
        elif not isinstance(operation, keras.layers.Layer):
            yield type(operation).__name__
