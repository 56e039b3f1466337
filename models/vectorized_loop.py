"""Several clients in one graph, each operation for all of them at once: what small models and few rows want."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from federated.component import Vector
from models.local_loop import LocalLoop, Outcome, Task
from models.local_step import LocalStep
from models.resident_rows import ResidentRows

LANES = 16
"""Clients that train side by side: always so many, or the bits of one could depend on how many there are."""

_LARGEST = 1024  # rows; a client with more is worth a graph of its own


class VectorizedLoop:
    """Clients in lanes. Each takes its own steps, in batches of equal width that are padded where rows are few.

    For models without state. Larger clients are left to ``single``: which way a client goes depends on it alone.
    """

    together = 4 * LANES

    def __init__(self, step: LocalStep, rows: list[tf.TensorSpec], single: LocalLoop) -> None:
        self._step, self._single = step, single
        numbers = tf.TensorSpec([LANES], tf.int32)
        self._run = tf.function(
            self._steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec([step.layout.size], tf.float32),
                *rows,
                tf.TensorSpec([LANES, None, None], tf.int32),
                tf.TensorSpec([LANES, None, None], tf.float32),
                *(numbers, numbers),
                tf.TensorSpec([LANES], tf.float32),
                tf.TensorSpec([LANES, step.linear_size], tf.float32),
            ],
        )

    def train(self, params: Vector, tasks: Sequence[Task], resident: ResidentRows) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        for width, places in _by_width(tasks).items():
            for start in range(0, len(places), LANES):
                some = places[start : start + LANES]
                chosen = [tasks[place] for place in some]
                done = self._in_lanes(params, chosen) if width else self._single.train(params, chosen, resident)
                outcomes |= zip(some, done, strict=True)
        return [outcomes[place] for place in range(len(tasks))]

    def _in_lanes(self, params: Vector, tasks: Sequence[Task]) -> list[Outcome]:
        most = max(course.order.shape[0] * course.epoch for _, course in tasks)
        places = np.zeros((LANES, most, tasks[0].course.width), np.int32)
        counts = np.zeros(places.shape, np.float32)
        numbers = np.zeros((2, LANES), np.int32)
        factors, linear = np.ones(LANES, np.float32), np.zeros((LANES, self._step.linear_size), np.float32)
        start = 0
        for lane, (data, course) in enumerate(tasks):
            course.deal(places[lane], counts[lane])
            places[lane] += start
            start += len(data)
            numbers[:, lane] = course.steps, course.unreported
            factors[lane], linear[lane] = course.factor, course.linear
        x, y = (np.concatenate([getattr(data, part) for data, _ in tasks]) for part in ("x", "y"))
        trained, losses = self._run(params, x, y, places, counts, *numbers, factors, linear)
        found = zip(tasks, trained.numpy(), losses.numpy(), strict=False)  # without the empty lanes
        return [Outcome(own, float(loss) / course.reported_rows) for (_, course), own, loss in found]

    def _steps(
        self,
        params: Any,
        x: Any,
        y: Any,
        places: Any,
        counts: Any,
        steps: Any,
        unreported: Any,
        factors: Any,
        linear: Any,
    ) -> Any:
        def one(lane: Any) -> Any:
            carried, x, y, counts, linear, goes_on = lane
            after, loss = self._step(carried, self._step.pull(params, linear), x, y, counts)
            return tf.nest.map_structure(lambda new, old: tf.where(goes_on, new, old), after, carried), loss

        def body(number: Any, carried: Any, total: Any) -> Any:
            chosen = places[:, number]
            lanes = carried, tf.gather(x, chosen), tf.gather(y, chosen), counts[:, number], linear, number < steps
            carried, losses = tf.vectorized_map(one, lanes)
            reported = (number >= unreported) & (number < steps)
            return number + 1, carried, total + tf.where(reported, losses, 0.0)

        nothing = tf.zeros([0, 2], tf.int32)
        begun = tf.vectorized_map(lambda factor: self._step.begin(params, nothing, factor), factors)
        _, carried, total = tf.while_loop(
            lambda number, *_: number < tf.reduce_max(steps), body, (tf.constant(0), begun, tf.zeros([LANES]))
        )
        pieces = [tf.reshape(weight, [LANES, -1]) for weight in carried.trainable]
        return tf.concat(pieces, axis=1), total


def _by_width(tasks: Sequence[Task]) -> dict[int, list[int]]:
    """Places of tasks whose batches are equally wide; 0 for those that are too large."""
    found: dict[int, list[int]] = {}
    for place, task in enumerate(tasks):
        found.setdefault(task.course.width if len(task.data) <= _LARGEST else 0, []).append(place)
    return found
