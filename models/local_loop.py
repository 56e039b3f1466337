"""Local training as one graph: every epoch and batch of a client in a single call."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from federated.data import Split
from federated.local_optimizers import AnyLocalOptimizer
from models.layout import Layout
from models.objectives import Objective
from models.stateless_optimizers import fresh_slots, stateless_optimizer


class Course(NamedTuple):
    """The randomness of a local training, and its batches.

    ``order`` says which row comes when, shape (epochs, rows); ``batch`` is how many come at a time, fewer at the end of
    an epoch; ``seeds`` are dropout's and the like, shape (states, 2).
    """

    order: NDArray[np.int32]
    batch: int
    seeds: NDArray[np.int32]


class LocalLoop(Protocol):
    """Stochastic gradient descent on one client's rows."""

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        """The trained vector, shape (parameters,), and the last epoch's mean loss."""


class LocalStep:
    """One step of the optimizer on one batch, from values to values."""

    def __init__(self, model: keras.Model, layout: Layout, objective: Objective, optimizer: AnyLocalOptimizer) -> None:
        self.layout, self._model, self._objective = layout, model, objective
        self._optimizer = stateless_optimizer(optimizer, model)
        self._fresh_slots = fresh_slots(self._optimizer)

    def begin(self, params: Any, seeds: Any) -> tuple[Any, ...]:
        """Weights, state and slots before the first step."""
        trainable, state = self.layout.unpack(params, seeds)
        return trainable, state, [tf.constant(value) for value in self._fresh_slots]

    def __call__(self, carried: Any, x: Any, y: Any, counts: Any = None) -> tuple[Any, Any]:
        """The next weights, state and slots, and the batch's summed loss. Rows whose ``counts`` is 0 are padding."""
        trainable, state, slots = carried
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
        found = tape.gradient(total, trainable, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(value) for value in found]
        trainable, slots = self._optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, state, slots), tf.reduce_sum(losses)


class GraphLoop:
    """A plain graph, compiled once for any number of rows, epochs and batches. Batches have their true size."""

    def __init__(self, step: LocalStep, rows: list[tf.TensorSpec]) -> None:
        self._step = step
        self._run = tf.function(
            self._steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec([step.layout.size], tf.float32),
                *rows,
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([step.layout.states, 2], tf.int32),
            ],
        )

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        trained, loss = self._run(params, data.x, data.y, course.order, np.int32(course.batch), course.seeds)
        return trained.numpy(), float(loss)

    def _steps(self, params: Any, x: Any, y: Any, order: Any, batch: Any, seeds: Any) -> Any:
        epochs, rows = tf.shape(order)[0], tf.shape(order)[1]
        steps = (rows + batch - 1) // batch

        def body(number: Any, carried: Any, total: Any) -> Any:
            epoch, start = number // steps, (number % steps) * batch
            chosen = order[epoch, start : tf.minimum(start + batch, rows)]
            carried, loss = self._step(carried, tf.gather(x, chosen), tf.gather(y, chosen))
            return number + 1, carried, total + tf.cast(epoch == epochs - 1, tf.float32) * loss

        _, (trainable, state, _), total = tf.while_loop(
            lambda number, *_: number < epochs * steps,
            body,
            (tf.constant(0), self._step.begin(params, seeds), tf.constant(0.0)),
        )
        return self._step.layout.pack(trainable, state), total / tf.cast(rows, tf.float32)


class PaddedLoop:
    """A graph compiled by XLA, which wants fixed shapes: rows and batches are padded, and padding counts for nothing.

    Sizes are rounded up to the next of 1, 2, 3, 4, 6, 8, 12, 16 …, so that few programs serve clients of every size.
    """

    def __init__(self, step: LocalStep) -> None:
        self._step = step
        self._run = tf.function(self._steps, autograph=False, jit_compile=True)

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        epochs, rows = course.order.shape
        batch = course.batch if course.batch < rows else rounded_up(rows)
        steps = -(-rows // batch)
        places = np.zeros((rounded_up(epochs * steps), batch), np.int32)
        counts = np.zeros(places.shape, np.float32)
        dealt = np.arange(epochs * rows).reshape(epochs, rows) + np.arange(epochs)[:, None] * (steps * batch - rows)
        places.reshape(-1)[dealt], counts.reshape(-1)[dealt] = course.order, 1
        trained, losses = self._run(
            params, _padded(data.x), _padded(data.y), places, counts, np.int32(epochs * steps), course.seeds
        )
        return trained.numpy(), float(losses.numpy()[(epochs - 1) * steps : epochs * steps].sum() / rows)

    def _steps(self, params: Any, x: Any, y: Any, places: Any, counts: Any, steps: Any, seeds: Any) -> Any:
        def body(number: Any, carried: Any, losses: Any) -> Any:
            chosen = places[number]
            carried, loss = self._step(carried, tf.gather(x, chosen), tf.gather(y, chosen), counts[number])
            return number + 1, carried, tf.tensor_scatter_nd_update(losses, [[number]], [loss])

        _, (trainable, state, _), losses = tf.while_loop(
            lambda number, *_: number < steps,
            body,
            (tf.constant(0), self._step.begin(params, seeds), tf.zeros(places.shape[0])),
        )
        return self._step.layout.pack(trainable, state), losses


def rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most half as much again."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


def _padded(rows: NDArray[Any]) -> NDArray[Any]:
    padded = np.zeros((rounded_up(len(rows)), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded
