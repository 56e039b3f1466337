"""The gradient of a batch: of its mean loss, or the mean of gradients that are clipped example by example."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from federated.errors import PlanError
from models.layout import Layout
from models.objectives import Objective

_DRAWS = 1024  # more than a layer makes in a step


class Slope(NamedTuple):
    """The gradient by weight, the state after the batch, and the sum of its examples' losses."""

    gradients: list[Any]
    state: list[Any]
    loss: Any


class Gradients(Protocol):
    """What local training descends along."""

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        """The slope of one batch. Rows whose ``counts`` is 0 are padding."""


class MeanGradient:
    """The gradient of the batch's mean loss and of the model's penalties.

    The loss is float32, whatever the model computes in. On its way back it is multiplied by ``scale``.
    """

    def __init__(self, model: keras.Model, objective: Objective, scale: float = 1.0) -> None:
        self._model, self._objective, self._scale = model, objective, scale

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            outputs, state, penalties = self._model.stateless_call(
                trainable, state, x, training=True, return_losses=True
            )
            losses = self._objective.loss(y, tf.cast(outputs, tf.float32))
            if counts is None:
                mean = tf.reduce_mean(losses)
            else:
                losses *= counts
                mean = tf.reduce_sum(losses) / tf.reduce_sum(counts)
            total = self._scale * tf.add_n([mean, *(tf.cast(penalty, tf.float32) for penalty in penalties)])
        found = _dense(tape.gradient(total, trainable, unconnected_gradients="zero"))
        return Slope([gradient / self._scale for gradient in found], state, tf.reduce_sum(losses))


class ClippedExamples:
    """The mean of the examples' own gradients, each scaled down to an L2 norm of at most ``norm``.

    Abadi et al. 2016, algorithm 1, without its noise. A model's penalties are part of every example's loss. With
    ``forgiving`` an example counts as zero whose gradient is not finite. All examples are computed side by side, or
    ``in_turn``: TensorFlow cannot vectorize loops over what embeddings give.

    Raises:
        PlanError: the model has moving statistics, through which examples see each other.
    """

    def __init__(
        self, one: Gradients, layout: Layout, norm: float, *, forgiving: bool = False, in_turn: bool = False
    ) -> None:
        if layout.size > layout.trainable:
            raise PlanError(
                "algorithm.local: examples cannot be clipped, because no gradient moves some weights of the model: "
                "batch normalisation mixes the examples of a batch (use group normalisation), or layers are frozen"
            )
        self._one, self._norm, self._forgiving, self._in_turn = one, norm, forgiving, in_turn

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        weights = tf.ones([tf.shape(x)[0]]) if counts is None else counts
        sums = self.summed(trainable, state, x, y, weights)
        total = tf.reduce_sum(weights)
        return sums._replace(gradients=[gradient / total for gradient in sums.gradients])

    def summed(self, trainable: list[Any], state: list[Any], x: Any, y: Any, weights: Any) -> Slope:
        """The weighted sum in place of the mean."""

        def example(number: Any) -> Any:
            slope = self._one(trainable, seeds_from(number, state), x[number][None], y[number][None])
            norm = tf.linalg.global_norm(slope.gradients)
            share = tf.minimum(1.0, self._norm / tf.maximum(norm, 1e-12))
            clipped = [share * gradient for gradient in slope.gradients]
            if self._forgiving:
                clipped = [tf.where(tf.math.is_finite(norm), gradient, 0.0) for gradient in clipped]
            return clipped, slope.loss

        numbers = tf.range(tf.shape(x)[0])
        if self._in_turn:
            kinds = [tf.TensorSpec(weight.shape, weight.dtype) for weight in trainable], tf.TensorSpec([], tf.float32)
            clipped, losses = tf.map_fn(example, numbers, fn_output_signature=kinds)
        else:
            clipped, losses = tf.vectorized_map(example, numbers)
        gradients = [tf.tensordot(weights, gradient, 1) for gradient in clipped]
        return Slope(gradients, after_draws(state), tf.reduce_sum(weights * losses))


def seeds_from(number: Any, state: list[Any]) -> list[Any]:
    """The seeds that the example ``number`` of a batch draws from. The state of a model without statistics is seeds."""
    return [value + tf.cast(tf.stack([number, 0]), value.dtype) for value in state]


def after_draws(state: list[Any]) -> list[Any]:
    """The seeds of the next batch, after whatever examples have drawn."""
    return [value + tf.cast(tf.stack([0, _DRAWS]), value.dtype) for value in state]


def _dense(found: list[Any]) -> list[Any]:
    """Embeddings have sparse gradients."""
    return [tf.convert_to_tensor(gradient) for gradient in found]
