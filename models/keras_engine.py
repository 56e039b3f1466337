"""The training engine: a Keras architecture behind flat vectors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from federated.component import Vector
from federated.data import Client, Split
from federated.engine import AS_ASKED, Fitted, Scores, Terms
from federated.errors import PlanError
from federated.local_training import LocalTraining
from federated.schedules import Constant
from models.architecture import Asked, Model, Shape, build_seeded
from models.compilation import Compilation, compilation
from models.gradients import ClippedExamples, Gradients, MeanGradient
from models.lane_dense import for_lanes
from models.layout import Layout
from models.local_loop import GraphLoop, LocalLoop, Outcome, PaddedLoop, Task, padded
from models.local_step import Course, LocalStep
from models.losses import USUAL, Loss
from models.resident_rows import ResidentRows
from models.stateless_optimizers import place_of_rate, stateless_optimizer
from models.vectorized_loop import VectorizedLoop

_SCORED_ROWS = 4096  # rows scored in one call: bounds memory


def prepare_devices() -> None:
    """One thread an operation, so that bits do not depend on the number of cores; GPU memory as needed.

    Clients run side by side instead. Where TensorFlow has already started, its settings stay as they are.
    """
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_intra_op_parallelism_threads(1)
    for gpu in tf.config.list_physical_devices("GPU"):
        with contextlib.suppress(RuntimeError):
            tf.config.experimental.set_memory_growth(gpu, True)


class KerasEngine:
    """Trains and scores one Keras architecture; an ``Engine``. Safe to call from several threads."""

    def __init__(
        self, spec: Model, inputs: Shape, classes: int | None, how: Asked = "auto", loss: Loss = USUAL
    ) -> None:
        prepare_devices()
        self._spec, self._inputs, self._classes = spec, inputs, classes
        self._objective = loss.objective(classes)
        self._model = build_seeded(spec, inputs, classes, seed=0)
        self._layout = Layout(self._model)
        self._compilation = compilation(how, self._model, self._layout)
        self._rows = [
            tf.TensorSpec([None, *inputs], tf.float32),
            tf.TensorSpec([None], self._objective.target_dtype),
        ]
        params = tf.TensorSpec([self.size], tf.float32)
        self._score = tf.function(self._score_rows, autograph=False, input_signature=[params, *self._rows])
        self._resident = ResidentRows(padded if self._compilation == "xla" else np.asarray)
        self._loops: dict[str, LocalLoop] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return self._layout.size

    @property
    def trainable(self) -> int:
        """How many of its first entries are trained."""
        return self._layout.trainable

    @property
    def compilation(self) -> Compilation:
        """By a plain graph, or by XLA."""
        return self._compilation

    def prepare(self, work: LocalTraining) -> None:
        """Builds what ``work`` needs, so that what is wrong with it shows before anything has begun.

        Raises:
            PlanError: its optimizer cannot be built, or it does not fit the model.
        """
        optimizer = self._optimizer(work)
        if place_of_rate(optimizer) is None and work.schedule != Constant():
            raise PlanError("algorithm.local.schedule: the optimizer has a schedule of its own; leave one out")
        self._loop(work, AS_ASKED)

    def init(self, seed: int) -> Vector:
        return self._layout.read(build_seeded(self._spec, self._inputs, self._classes, seed))

    def fit(
        self, params: Vector, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms = AS_ASKED
    ) -> Fitted:
        (outcome,) = self._loop(work, terms).train(params, [self._task(data, work, rng, terms)])
        return _fitted(outcome)

    def fit_cohort(
        self,
        params: Vector,
        clients: Sequence[Client],
        work: LocalTraining,
        rngs: Sequence[np.random.Generator],
        terms: Sequence[Terms],
    ) -> Iterator[Fitted]:
        matched = zip(clients, rngs, terms, strict=True)
        for loop, members in groupby(matched, lambda one: self._loop(work, one[2])):
            while together := list(islice(members, loop.together)):
                tasks = [self._task(client.train, work, rng, own) for client, rng, own in together]
                yield from map(_fitted, loop.train(params, tasks))

    def score(self, params: Vector, data: Split) -> Scores:
        pieces = [
            self._score(params, data.x[at : at + _SCORED_ROWS], data.y[at : at + _SCORED_ROWS])
            for at in range(0, len(data), _SCORED_ROWS)
        ]
        names = ("loss", self._objective.score_name)
        return {
            name: np.concatenate([piece.numpy() for piece in column])
            for name, column in zip(names, zip(*pieces, strict=True), strict=True)
        }

    def _loop(self, work: LocalTraining, terms: Terms) -> LocalLoop:
        """Compiled once for every kind of step."""
        linear = terms.linear is not None
        key = f"{work.optimizer.model_dump_json()} {work.clip_examples} {terms.proximal} {linear}"
        with self._lock:
            if key not in self._loops:
                step = LocalStep(self._layout, self._gradients(work), self._optimizer(work), terms.proximal, linear)
                self._loops[key] = self._looped(step, work)
            return self._loops[key]

    def _looped(self, step: LocalStep, work: LocalTraining) -> LocalLoop:
        if self._compilation == "xla":
            return PaddedLoop(step, self._resident)
        plain = GraphLoop(step, self._resident, self._rows)
        in_lanes = self._compilation == "vectorized" and work.clip_examples is None
        return VectorizedLoop(step, self._rows, plain) if in_lanes else plain

    def _task(self, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms) -> Task:
        rows = len(data)
        steps = terms.steps or work.asked(rows)
        order = np.stack([rng.permutation(rows) for _ in range(-(-steps // work.epoch(rows)))]).astype(np.int32)
        seeds = rng.integers(0, 2**31, size=(self._layout.states, 2)).astype(np.int32)
        linear = np.empty(0, np.float32) if terms.linear is None else terms.linear
        return Task(data, Course(order, work.batch(rows), steps, seeds, terms.factor, linear))

    def _optimizer(self, work: LocalTraining) -> keras.optimizers.Optimizer:
        return stateless_optimizer(work.optimizer, self._model)

    def _gradients(self, work: LocalTraining) -> Gradients:
        if work.clip_examples is None:
            in_lanes = self._compilation == "vectorized"
            return MeanGradient(for_lanes(self._model) if in_lanes else self._model, self._objective)
        return ClippedExamples(self._model, self._layout, self._objective, work.clip_examples)

    def _score_rows(self, params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        unused_seeds = tf.zeros([self._layout.states, 2], tf.int32)
        trainable, state = self._layout.unpack(params, unused_seeds)
        outputs, _ = self._model.stateless_call(trainable, state, x, training=False)
        return self._objective.loss(y, outputs), self._objective.score(y, outputs)


def _fitted(outcome: Outcome) -> Fitted:
    return Fitted(outcome.params, {"train_loss": outcome.loss})
