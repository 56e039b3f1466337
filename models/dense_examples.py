"""Clipped sums of examples' gradients for dense layers, without a gradient an example: as cheap as plain descent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from models.architecture import BUILDING, graph_of
from models.gradients import Slope
from models.objectives import Objective

_KINDS = tuple(
    getattr(keras.layers, kind)
    for kind in ("InputLayer", "Flatten", "Reshape", "Dense", "Activation", "ReLU", "Add", "Dropout")
)


class _Tap(NamedTuple):
    """A dense layer's inputs, shape (rows, inputs), and zeros that were added to what it gave: (rows, units)."""

    layer: keras.layers.Dense
    inputs: Any
    added: Any


class _Taps:
    """What the layers of one pass have let through."""

    def __init__(self, tape: tf.GradientTape) -> None:
        self._tape, self.found = tape, list[_Tap]()

    def through(self, layer: keras.layers.Dense, inputs: Any, outputs: Any) -> Any:
        added = tf.zeros_like(outputs)
        self._tape.watch(added)
        self.found.append(_Tap(layer, inputs, added))
        return outputs + added


_TAPS: ContextVar[_Taps] = ContextVar("taps")


class TappedDense(keras.layers.Dense):
    """A dense layer that tells of its inputs and of the gradient by what it gave."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = keras.ops.matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = outputs + self.bias
        return self.activation(_TAPS.get().through(self, inputs, outputs))


class DenseExamples:
    """Σ wᵢ gᵢ min(1, ``norm`` / ‖gᵢ‖) over a batch, where gᵢ is an example's gradient and wᵢ its weight, 0 for padding.

    A dense layer's gradient of one example is the outer product of its inputs a and of the gradient δ by its outputs:
    its squared norm is (‖a‖² + 1)‖δ‖², and the weighted sum one matrix product (Goodfellow 2015; Li et al. 2022).
    Norms are float64: in float32 the square of a small δ would be zero, and its product with a large a not clipped. An
    example whose gradient is not finite counts as zero.
    """

    def __init__(self, model: keras.Model, objective: Objective, norm: float) -> None:
        with BUILDING:
            self._model = keras.models.clone_model(model, clone_function=_cloned)
        self._objective, self._norm = objective, norm
        self._places = {id(weight): place for place, weight in enumerate(self._model.trainable_variables)}

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, weights: Any) -> Slope:
        with tf.GradientTape(watch_accessed_variables=False) as tape, _tapping(tape) as taps:
            outputs, state = self._model.stateless_call(trainable, state, x, training=True)
            losses = self._objective.loss(y, outputs)
        deltas = tape.gradient(losses, [tap.added for tap in taps.found], unconnected_gradients="zero")
        squares = [_square(tap, delta) for tap, delta in zip(taps.found, deltas, strict=True)]
        norms = tf.sqrt(tf.add_n(squares))[:, None]
        shares = weights[:, None] * tf.cast(self._norm / tf.maximum(norms, self._norm), tf.float32)
        usable = tf.math.is_finite(norms)
        gradients: list[Any] = [None] * len(trainable)
        for tap, delta in zip(taps.found, deltas, strict=True):
            inputs, clipped = (tf.where(usable, values, 0.0) for values in (tap.inputs, delta * shares))
            gradients[self._places[id(tap.layer.kernel)]] = tf.matmul(inputs, clipped, transpose_a=True)
            if tap.layer.use_bias:
                gradients[self._places[id(tap.layer.bias)]] = tf.reduce_sum(clipped, axis=0)
        return Slope(gradients, state, tf.tensordot(weights, losses, 1))


def takes(model: keras.Model) -> bool:
    """Whether a model is dense layers, each used once on rows of numbers, and what treats each row alone.

    Whatever else is in it, such as a ``keras.ops`` between two layers, an inner model, a ``call`` of its own or a
    penalty, may mix rows or add to the loss what the way through dense layers does not see.
    """
    graph = graph_of(model)
    if graph is None or model.losses:
        return False
    return all(type(one) in _KINDS and _is_plain(one) for one in graph.operations)


def _is_plain(layer: keras.Layer) -> bool:
    """Whether it has no penalty, and no activation but one of Keras; and a dense one its usual weights, used once."""
    penalised = getattr(layer, "activity_regularizer", None) is not None
    if penalised or not _is_keras_own(getattr(layer, "activation", None)):
        return False
    if type(layer) is not keras.layers.Dense:
        return layer.trainable
    usual = len(layer.trainable_weights) == len(layer.weights) == 1 + layer.use_bias
    return usual and len(layer._inbound_nodes) == 1 and len(layer.input.shape) == 2


def _is_keras_own(activation: Any) -> bool:
    """Whether an activation is none, or among Keras's: another may mix the rows of a batch."""
    return activation is None or getattr(keras.activations, getattr(activation, "__name__", ""), None) is activation


@contextmanager
def _tapping(tape: tf.GradientTape) -> Iterator[_Taps]:
    taps = _Taps(tape)
    token = _TAPS.set(taps)
    try:
        yield taps
    finally:
        _TAPS.reset(token)


def _square(tap: _Tap, delta: Any) -> Any:
    """The squared norm of each example's gradient by the layer's weights: shape (rows,), float64."""
    inputs, by_outputs = (
        tf.reduce_sum(tf.square(tf.cast(values, tf.float64)), axis=1) for values in (tap.inputs, delta)
    )
    return (inputs + float(tap.layer.use_bias)) * by_outputs


def _cloned(layer: keras.Layer) -> keras.Layer:
    kind = TappedDense if type(layer) is keras.layers.Dense else type(layer)
    return kind.from_config(layer.get_config())
