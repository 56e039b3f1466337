"""Differentially private descent: batches drawn by chance, clipped sums of gradients, and noise."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from federated.data import Split
from federated.dp_sgd import DpSgd, Draws
from federated.engine import Terms
from federated.local_training import LocalTraining
from federated.randomness import secret_generator
from models.gradients import Slope
from models.local_loop import Outcome
from models.local_step import Carried, LocalStep
from models.noise import KEY, normals
from models.resident_rows import ResidentRows


class ClippedSum(Protocol):
    """The weighted sum of examples' clipped gradients."""

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, weights: Any) -> Slope:
        """The slope of one batch, summed. Rows whose weight is 0 are padding."""


class PrivateCourse(NamedTuple):
    """What a private local training does with its rows.

    ``draws`` are its batches, of ``batch`` rows on average; ``keys`` of the noise, a step each, have shape (steps, 8).
    The rest is as for any other training.
    """

    draws: Draws
    batch: int
    keys: NDArray[np.int32]
    seeds: NDArray[np.int32]
    factor: float
    linear: Vector


class PrivateTask(NamedTuple):
    """A client's rows, and what is done with them."""

    data: Split
    course: PrivateCourse


def private_task(
    data: Split, work: LocalTraining, how: DpSgd, states: int, rng: np.random.Generator, terms: Terms
) -> PrivateTask:
    """A client's task. What it draws comes from ``rng`` in simulations only."""
    rows = len(data)
    drawing = rng if how.seeded else secret_generator()
    steps, batch = terms.steps or work.asked(rows), work.batch(rows)
    drawn = rng.bytes if how.seeded else secrets.token_bytes
    keys, seeds = (
        np.frombuffer(drawn(4 * count * width), np.int32).reshape(count, width)
        for count, width in ((steps, KEY), (states, 2))
    )
    linear = np.empty(0, np.float32) if terms.linear is None else terms.linear
    return PrivateTask(
        data, PrivateCourse(how.draw(batch, rows, steps, drawing), batch, keys, seeds, terms.factor, linear)
    )


class PrivateLoop:
    """DP-SGD as one graph (Abadi et al. 2016, algorithm 1). It tells nothing of itself: a loss would not be noised.

    The noise of a step is drawn from that step's key.
    """

    together = 1

    def __init__(self, step: LocalStep, summed: ClippedSum, how: DpSgd, rows: list[tf.TensorSpec]) -> None:
        self._step, self._summed, self._deviation = step, summed, how.noise_multiplier * how.norm
        self._run = tf.function(
            self._steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec([step.layout.size], tf.float32),
                *rows,
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([None, None], tf.float32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([None, KEY], tf.int32),
                tf.TensorSpec([step.layout.states, 2], tf.int32),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([step.linear_size], tf.float32),
            ],
        )

    def train(self, params: Vector, tasks: Sequence[PrivateTask], resident: ResidentRows) -> list[Outcome]:
        return [self._one(params, course, *resident.of(data)) for data, course in tasks]

    def _one(self, params: Vector, course: PrivateCourse, x: Any, y: Any) -> Outcome:
        own = course.seeds, np.float32(course.factor), course.linear
        trained = self._run(params, x, y, *course.draws, np.float32(course.batch), course.keys, *own)
        return Outcome(trained.numpy(), None)

    def _steps(
        self,
        params: Any,
        x: Any,
        y: Any,
        places: Any,
        counts: Any,
        batch: Any,
        keys: Any,
        seeds: Any,
        factor: Any,
        linear: Any,
    ) -> Any:
        begun, pull = self._step.begin(params, seeds, factor), self._step.pull(params, linear)

        def body(number: Any, carried: Carried) -> Any:
            chosen = places[number]
            rows = tf.gather(x, chosen), tf.gather(y, chosen), counts[number]
            return number + 1, self._step.along(self._noised(carried, rows, batch, keys[number]), carried, pull)

        steps = tf.shape(places)[0]
        _, carried = tf.while_loop(
            lambda number, _: number < steps,
            body,
            (tf.constant(0), begun),
            parallel_iterations=1,  # draws that run ahead would wait for one another: they are Python
        )
        return self._step.end(carried)

    def _noised(self, carried: Carried, rows: tuple[Any, ...], batch: Any, key: Any) -> Slope:
        x, y, counts = rows
        slope = self._summed(carried.trainable, carried.state, x, y, counts / batch)
        drawn = normals(self._step.layout.trainable, key, self._deviation / batch)
        noise = self._step.layout.unpack_trainable(drawn)
        return slope._replace(gradients=[sum_ + own for sum_, own in zip(slope.gradients, noise, strict=True)])
