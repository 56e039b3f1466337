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
    """The gradient of the batch's mean loss and of the model's penalties."""

    def __init__(self, model: keras.Model, objective: Objective) -> None:
        self._model, self._objective = model, objective

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            outputs, state, penalties = self._model.stateless_call(
                trainable, state, x, training=True, return_losses=True
            )
            losses = self._objective.loss(y, outputs)
            if counts is None:
                mean = tf.reduce_mean(losses)
            else:
                losses *= counts
                mean = tf.reduce_sum(losses) / tf.reduce_sum(counts)
            total = tf.add_n([mean, *penalties])
        return Slope(
            _dense(tape.gradient(total, trainable, unconnected_gradients="zero")), state, tf.reduce_sum(losses)
        )


class ClippedExamples:
    """The mean of the examples' own gradients, each scaled down to an L2 norm of at most ``norm``.

    Abadi et al. 2016, algorithm 1, without its noise. A model's penalties are part of every example's loss.

    Raises:
        PlanError: the model has moving statistics, through which examples see each other.
    """

    def __init__(self, model: keras.Model, layout: Layout, objective: Objective, norm: float) -> None:
        if layout.size > layout.trainable:
            raise PlanError(
                "algorithm.local.clip_examples: batch normalisation mixes the examples of a batch; "
                "use group normalisation"
            )
        self._one, self._norm = MeanGradient(model, objective), norm

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        rows = tf.shape(x)[0]
        numbers = tf.range(rows)

        def example(number: Any) -> Any:
            seeds = [value + tf.cast(tf.stack([number, 0]), value.dtype) for value in state]
            slope = self._one(trainable, seeds, x[number][None], y[number][None])
            norm = tf.linalg.global_norm(slope.gradients)
            share = tf.minimum(1.0, self._norm / tf.maximum(norm, 1e-12))
            return [share * gradient for gradient in slope.gradients], slope.loss

        clipped, losses = tf.vectorized_map(example, numbers)
        weights = tf.ones([rows]) if counts is None else counts
        total = tf.reduce_sum(weights)
        gradients = [tf.tensordot(weights, gradient, 1) / total for gradient in clipped]
        after = [value + tf.cast(tf.stack([0, _DRAWS]), value.dtype) for value in state]
        return Slope(gradients, after, tf.reduce_sum(weights * losses))


def _dense(found: list[Any]) -> list[Any]:
    """Embeddings have sparse gradients."""
    return [tf.convert_to_tensor(gradient) for gradient in found]
