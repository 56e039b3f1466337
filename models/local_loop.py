"""Local training as one graph: every epoch and batch of a client in a single call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from federated.data import Split
from models.local_step import Carried, Course, LocalStep, Pull, rounded_up
from models.resident_rows import ResidentRows


class Task(NamedTuple):
    """A client's rows, and what is done with them."""

    data: Split
    course: Course


class Outcome(NamedTuple):
    """The trained vector, shape (parameters,), and the mean loss of the last epoch's worth of steps, if it is told."""

    params: Vector
    loss: float | None


class LocalLoop(Protocol):
    """Stochastic gradient descent from one vector, on the rows of several clients."""

    together: int
    """How many clients it wants at a time."""

    def train(self, params: Vector, tasks: Sequence[Any], resident: ResidentRows) -> list[Outcome]:
        """An outcome a task, in order: each is a function of ``params`` and the task alone. Tasks are of its kind."""


class GraphLoop:
    """A plain graph, compiled once for any number of rows, epochs and batches. Batches have their true size."""

    together = 1

    def __init__(self, step: LocalStep, rows: list[tf.TensorSpec]) -> None:
        self._step = step
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

    def train(self, params: Vector, tasks: Sequence[Task], resident: ResidentRows) -> list[Outcome]:
        return [self._one(params, course, *resident.of(data)) for data, course in tasks]

    def _one(self, params: Vector, course: Course, x: Any, y: Any) -> Outcome:
        numbers = np.int32(course.batch), np.int32(course.steps), np.int32(course.unreported)
        own = course.seeds, np.float32(course.factor), course.linear
        trained, loss = self._run(params, x, y, course.order, *numbers, *own)
        return Outcome(trained.numpy(), float(loss) / course.reported_rows)

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

        def batch_of(number: Any) -> tuple[Any, ...]:
            start = (number % epoch) * batch
            chosen = order[number // epoch, start : tf.minimum(start + batch, rows)]
            return tf.gather(x, chosen), tf.gather(y, chosen)

        begun, pull = self._step.begin(params, seeds, factor), self._step.pull(params, linear)
        return _descend(self._step, begun, pull, batch_of, steps, unreported)


class PaddedLoop:
    """A graph compiled by XLA, which wants fixed shapes: rows and batches are padded, and padding counts for nothing.

    Sizes are rounded up to the next of 1, 2, 3, 4, 6, 8, 12, 16 …, so that few programs serve clients of every size.
    """

    together = 1

    def __init__(self, step: LocalStep) -> None:
        self._step = step
        self._run = tf.function(self._steps, autograph=False, jit_compile=True)

    def train(self, params: Vector, tasks: Sequence[Task], resident: ResidentRows) -> list[Outcome]:
        return [self._one(params, course, *resident.of(data)) for data, course in tasks]

    def _one(self, params: Vector, course: Course, x: Any, y: Any) -> Outcome:
        epochs = -(-course.most // course.epoch)  # those who do less than others need no program of their own
        places = np.zeros((rounded_up(epochs * course.epoch), course.width), np.int32)
        counts = np.zeros(places.shape, np.float32)
        course.deal(places, counts)
        numbers = np.int32(course.steps), np.int32(course.unreported)
        own = course.seeds, np.float32(course.factor), course.linear
        trained, loss = self._run(params, x, y, places, counts, *numbers, *own)
        return Outcome(trained.numpy(), float(loss) / course.reported_rows)

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
        def batch_of(number: Any) -> tuple[Any, ...]:
            chosen = places[number]
            return tf.gather(x, chosen), tf.gather(y, chosen), counts[number]

        begun, pull = self._step.begin(params, seeds, factor), self._step.pull(params, linear)
        return _descend(self._step, begun, pull, batch_of, steps, unreported)


def _descend(
    step: LocalStep, begun: Carried, pull: Pull, batch_of: Callable[[Any], tuple[Any, ...]], steps: Any, unreported: Any
) -> tuple[Any, Any]:
    """Inside a graph: the trained vector, and the summed loss of the steps that are reported."""

    def body(number: Any, carried: Any, total: Any) -> Any:
        carried, loss = step(carried, pull, *batch_of(number))
        return number + 1, carried, total + tf.cast(number >= unreported, tf.float32) * loss

    _, carried, total = tf.while_loop(
        lambda number, *_: number < steps, body, (tf.constant(0), begun, tf.constant(0.0))
    )
    return step.end(carried), total


def padded(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of zeros behind them, up to a size that programs are compiled for."""
    filled = np.zeros((rounded_up(len(rows)), *rows.shape[1:]), rows.dtype)
    filled[: len(rows)] = rows
    return filled
