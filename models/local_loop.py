"""Local training as one graph: every epoch and batch of a client in a single call."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from federated.data import Split
from models.gradients import Gradients
from models.layout import Layout
from models.resident_rows import ResidentRows
from models.stateless_optimizers import fresh_slots, place_of_rate


class Course(NamedTuple):
    """What a local training does with its rows.

    ``order`` says which row comes when, shape (epochs, rows); ``batch`` is how many come at a time, fewer at the end of
    an epoch; ``steps`` are taken, the last of them in the last epoch. ``seeds`` are dropout's and the like, shape
    (states, 2). ``factor`` multiplies the learning rate, and ``linear`` is added to every gradient: shape (trainable,),
    or (0,) where there is nothing to add.
    """

    order: NDArray[np.int32]
    batch: int
    steps: int
    seeds: NDArray[np.int32]
    factor: float
    linear: Vector

    @property
    def epoch(self) -> int:
        """Steps that pass over all rows."""
        return -(-self.order.shape[1] // self.batch)

    @property
    def unreported(self) -> int:
        """Steps whose loss is not reported: all but the last epoch's worth."""
        return max(self.steps - self.epoch, 0)

    @property
    def reported_rows(self) -> int:
        """Rows in the steps whose loss is reported."""
        return self.order.shape[1] if self.steps >= self.epoch else self.steps * self.batch


class LocalLoop(Protocol):
    """Stochastic gradient descent on one client's rows."""

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        """The trained vector, shape (parameters,), and the mean loss of the last epoch's worth of steps."""


class Carried(NamedTuple):
    """What a step takes over from the one before."""

    trainable: list[Any]
    state: list[Any]
    slots: list[Any]


class Pull(NamedTuple):
    """What is added to every gradient: ``linear``, by weight, and ``proximal`` times the way from ``origin``."""

    proximal: float
    origin: list[Any]
    linear: list[Any]

    def __call__(self, gradients: list[Any], trainable: list[Any]) -> list[Any]:
        """The gradients of the corrected objective."""
        if self.linear:
            gradients = [gradient + own for gradient, own in zip(gradients, self.linear, strict=True)]
        if self.proximal:
            way = [now - then for now, then in zip(trainable, self.origin, strict=True)]
            gradients = [gradient + self.proximal * gone for gradient, gone in zip(gradients, way, strict=True)]
        return gradients


class LocalStep:
    """One step of the optimizer on one batch, from values to values. ``linear`` says whether gradients get some."""

    def __init__(
        self,
        layout: Layout,
        gradients: Gradients,
        optimizer: keras.optimizers.Optimizer,
        proximal: float,
        linear: bool,
    ) -> None:
        self.layout, self._gradients, self._optimizer, self._proximal = layout, gradients, optimizer, proximal
        self.linear_size = layout.trainable if linear else 0
        self._fresh_slots, self._rate = fresh_slots(optimizer), place_of_rate(optimizer)

    def begin(self, params: Any, seeds: Any, factor: Any, linear: Any) -> tuple[Carried, Pull]:
        """What the first step takes over, and what every step adds to its gradients."""
        trainable, state = self.layout.unpack(params, seeds)
        slots = [tf.constant(value) for value in self._fresh_slots]
        if self._rate is not None:
            slots[self._rate] *= factor
        added = self.layout.unpack_trainable(linear) if self.linear_size else []
        return Carried(trainable, state, slots), Pull(self._proximal, trainable, added)

    def __call__(self, carried: Carried, pull: Pull, x: Any, y: Any, counts: Any = None) -> tuple[Carried, Any]:
        """What the next step takes over, and the batch's summed loss. Rows whose ``counts`` is 0 are padding."""
        slope = self._gradients(carried.trainable, carried.state, x, y, counts)
        gradients = pull(slope.gradients, carried.trainable)
        trainable, slots = self._optimizer.stateless_apply(carried.slots, gradients, carried.trainable)
        return Carried(list(trainable), list(slope.state), list(slots)), slope.loss

    def end(self, carried: Carried) -> Any:
        """The trained vector."""
        return self.layout.pack(carried.trainable, carried.state)


class GraphLoop:
    """A plain graph, compiled once for any number of rows, epochs and batches. Batches have their true size."""

    def __init__(self, step: LocalStep, resident: ResidentRows, rows: list[tf.TensorSpec]) -> None:
        self._step, self._resident = step, resident
        number = tf.TensorSpec([], tf.int32)
        self._run = tf.function(
            self._steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec([step.layout.size], tf.float32),
                *rows,
                tf.TensorSpec([None, None], tf.int32),
                *(number, number, number),
                tf.TensorSpec([step.layout.states, 2], tf.int32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([step.linear_size], tf.float32),
            ],
        )

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        numbers = np.int32(course.batch), np.int32(course.steps), np.int32(course.unreported)
        own = course.seeds, np.float32(course.factor), course.linear
        trained, loss = self._run(params, *self._resident.of(data), course.order, *numbers, *own)
        return trained.numpy(), float(loss) / course.reported_rows

    def _steps(
        self,
        params: Any,
        x: Any,
        y: Any,
        order: Any,
        batch: Any,
        steps: Any,
        unreported: Any,
        seeds: Any,
        factor: Any,
        linear: Any,
    ) -> Any:
        rows = tf.shape(order)[1]
        epoch = (rows + batch - 1) // batch
        begun, pull = self._step.begin(params, seeds, factor, linear)

        def body(number: Any, carried: Any, total: Any) -> Any:
            start = (number % epoch) * batch
            chosen = order[number // epoch, start : tf.minimum(start + batch, rows)]
            carried, loss = self._step(carried, pull, tf.gather(x, chosen), tf.gather(y, chosen))
            return number + 1, carried, total + tf.cast(number >= unreported, tf.float32) * loss

        _, carried, total = tf.while_loop(
            lambda number, *_: number < steps, body, (tf.constant(0), begun, tf.constant(0.0))
        )
        return self._step.end(carried), total


class PaddedLoop:
    """A graph compiled by XLA, which wants fixed shapes: rows and batches are padded, and padding counts for nothing.

    Sizes are rounded up to the next of 1, 2, 3, 4, 6, 8, 12, 16 …, so that few programs serve clients of every size.
    """

    def __init__(self, step: LocalStep, resident: ResidentRows) -> None:
        self._step, self._resident = step, resident
        self._run = tf.function(self._steps, autograph=False, jit_compile=True)

    def train(self, params: Vector, data: Split, course: Course) -> tuple[Vector, float]:
        rows = course.order.shape[1]
        batch = course.batch if course.batch < rows else rounded_up(rows)
        places, counts = _dealt(course, batch)
        numbers = np.int32(course.steps), np.int32(course.unreported)
        own = course.seeds, np.float32(course.factor), course.linear
        trained, loss = self._run(params, *self._resident.of(data), places, counts, *numbers, *own)
        return trained.numpy(), float(loss) / course.reported_rows

    def _steps(
        self,
        params: Any,
        x: Any,
        y: Any,
        places: Any,
        counts: Any,
        steps: Any,
        unreported: Any,
        seeds: Any,
        factor: Any,
        linear: Any,
    ) -> Any:
        begun, pull = self._step.begin(params, seeds, factor, linear)

        def body(number: Any, carried: Any, total: Any) -> Any:
            chosen = places[number]
            carried, loss = self._step(carried, pull, tf.gather(x, chosen), tf.gather(y, chosen), counts[number])
            return number + 1, carried, total + tf.cast(number >= unreported, tf.float32) * loss

        _, carried, total = tf.while_loop(
            lambda number, *_: number < steps, body, (tf.constant(0), begun, tf.constant(0.0))
        )
        return self._step.end(carried), total


def rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most half as much again."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


def _dealt(course: Course, batch: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Which row stands at each place of each step, shape (steps, batch), and 1 where one does."""
    epochs, rows = course.order.shape
    places = np.zeros((rounded_up(epochs * course.epoch), batch), np.int32)
    counts = np.zeros(places.shape, np.float32)
    padding = course.epoch * batch - rows
    dealt = np.arange(epochs * rows).reshape(epochs, rows) + np.arange(epochs)[:, None] * padding
    places.reshape(-1)[dealt], counts.reshape(-1)[dealt] = course.order, 1
    return places, counts


def padded(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of zeros behind them, up to a size that programs are compiled for."""
    filled = np.zeros((rounded_up(len(rows)), *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    return filled
