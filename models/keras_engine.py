"""The training engine: a Keras architecture behind flat vectors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from federated.component import Vector
from federated.data import Client, Split
from federated.engine import Fitted, Scores
from federated.local_optimizers import LocalTraining
from models.architecture import Asked, Model, Shape, build_seeded
from models.compilation import Compilation, compilation
from models.layout import Layout
from models.local_loop import Course, GraphLoop, LocalLoop, LocalStep, PaddedLoop
from models.objectives import objective

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

    def __init__(self, spec: Model, inputs: Shape, classes: int | None, how: Asked = "auto") -> None:
        prepare_devices()
        self._spec, self._inputs, self._classes = spec, inputs, classes
        self._objective = objective(classes)
        self._model = build_seeded(spec, inputs, classes, seed=0)
        self._layout = Layout(self._model)
        self._compilation = compilation(how, self._model, self._layout)
        self._rows = [
            tf.TensorSpec([None, *inputs], tf.float32),
            tf.TensorSpec([None], self._objective.target_dtype),
        ]
        params = tf.TensorSpec([self.size], tf.float32)
        self._score = tf.function(self._score_rows, autograph=False, input_signature=[params, *self._rows])
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
            PlanError: its optimizer cannot be built.
        """
        self._loop(work)

    def init(self, seed: int) -> Vector:
        return self._layout.read(build_seeded(self._spec, self._inputs, self._classes, seed))

    def fit(self, params: Vector, data: Split, work: LocalTraining, rng: np.random.Generator) -> Fitted:
        order = np.stack([rng.permutation(len(data)) for _ in range(work.epochs)])
        seeds = rng.integers(0, 2**31, size=(self._layout.states, 2))
        batch = min(work.batch_size or len(data), len(data))
        course = Course(order.astype(np.int32), batch, seeds.astype(np.int32))
        trained, loss = self._loop(work).train(params, data, course)
        return Fitted(trained, {"train_loss": loss})

    def fit_cohort(
        self,
        params: Vector,
        clients: Sequence[Client],
        work: LocalTraining,
        rngs: Sequence[np.random.Generator],
    ) -> Iterator[Fitted]:
        for client, rng in zip(clients, rngs, strict=True):
            yield self.fit(params, client.train, work, rng)

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

    def _loop(self, work: LocalTraining) -> LocalLoop:
        key = work.optimizer.model_dump_json()
        with self._lock:
            if key not in self._loops:
                step = LocalStep(self._model, self._layout, self._objective, work.optimizer)
                self._loops[key] = PaddedLoop(step) if self._compilation == "xla" else GraphLoop(step, self._rows)
            return self._loops[key]

    def _score_rows(self, params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        unused_seeds = tf.zeros([self._layout.states, 2], tf.int32)
        trainable, state = self._layout.unpack(params, unused_seeds)
        outputs, _ = self._model.stateless_call(trainable, state, x, training=False)
        return self._objective.loss(y, outputs), self._objective.score(y, outputs)
