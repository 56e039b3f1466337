"""The training engine: a Keras architecture behind flat vectors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from federated.component import Vector
from federated.data import Client, Split
from federated.dp_sgd import DpSgd
from federated.engine import AS_ASKED, Fitted, Scores, Terms
from federated.errors import PlanError
from federated.local_training import LocalTraining
from federated.schedules import Constant
from models.architecture import Asked, AskedDevice, DeviceType, Model, Precision, Shape, build_seeded
from models.compilation import Compilation, compilation, compilation_for, loops_over_embeddings
from models.data_parallel import DataParallel
from models.dense_examples import DenseExamples
from models.dense_examples import takes as takes_dense
from models.devices import HOST, Turns, devices, off_cudnn, prepare_devices
from models.gradients import ClippedExamples, Gradients, MeanGradient
from models.lane_dense import for_lanes
from models.layout import Layout
from models.local_loop import GraphLoop, LocalLoop, PaddedLoop, Task, padded
from models.local_step import Course, LocalStep
from models.losses import USUAL, Loss
from models.max_pooling import tile_pools
from models.objectives import OwnLoss
from models.precision import LOSS_SCALES, check_precision
from models.private_loop import ClippedSum, PrivateLoop, PrivateTask, private_task
from models.resident_rows import ResidentRows
from models.stateless_optimizers import place_of_rate, stateless_optimizer
from models.vectorized_loop import VectorizedLoop

_SCORED_ROWS = 4096  # rows scored in one call: bounds memory


class KerasEngine:
    """Trains and scores one Keras architecture; an ``Engine``. Safe to call from several threads.

    Trainings side by side spread over all devices; ``replicas`` devices train one client together. Models are built on
    the CPU and scored in float32.

    Raises:
        PlanError: the devices are not there, or the model does not fit them or the rest.
    """

    def __init__(
        self,
        spec: Model,
        inputs: Shape,
        classes: int | None,
        how: Asked = "auto",
        loss: Loss = USUAL,
        device: AskedDevice = "auto",
        replicas: int = 1,
        precision: Precision = "float32",
    ) -> None:
        prepare_devices()
        self._devices = devices(device, replicas)
        self._turns = Turns(len(self._devices.groups))
        self._spec, self._inputs, self._classes, self._precision = spec, inputs, classes, precision
        self._objective = loss.objective(classes)
        self._model = self._built("float32")
        self._layout = Layout(self._model)
        self._asked = how
        self._found = self._compilation = compilation(how, self._model, self._layout, self._devices)
        self._trained = self._model if precision == "float32" else self._built(precision)
        self._rows = [
            tf.TensorSpec([None, *inputs], tf.float32),
            tf.TensorSpec([None], self._objective.target_dtype),
        ]
        params = tf.TensorSpec([self.size], tf.float32)
        self._score = tf.function(self._score_rows, autograph=False, input_signature=[params, *self._rows])
        prepared = padded if self._compilation == "xla" else np.asarray
        self._resident = [ResidentRows(prepared) for _ in self._devices.groups]
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
    def layers(self) -> tuple[int, ...]:
        return self._layout.layers

    @property
    def compilation(self) -> Compilation:
        """How local training is compiled."""
        return self._compilation

    @property
    def device(self) -> DeviceType:
        """What trains."""
        return self._devices.type

    def prepare(self, work: LocalTraining) -> None:
        """Builds what ``work`` needs, so that what is wrong with it shows before anything has begun.

        Raises:
            PlanError: its optimizer cannot be built, or it does not fit the model.
        """
        with tf.device(HOST):
            optimizer = self._optimizer(work)
        if place_of_rate(optimizer) is None and work.schedule != Constant():
            raise PlanError("algorithm.local.schedule: the optimizer has a schedule of its own; leave one out")
        self._compilation = self._way(work)
        self._loop(work, AS_ASKED)

    def init(self, seed: int) -> Vector:
        with tf.device(HOST):
            return self._layout.read(build_seeded(self._spec, self._inputs, self._classes, seed))

    def fit(
        self, params: Vector, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms = AS_ASKED
    ) -> Fitted:
        (fitted,) = self._train(params, work, terms, [self._task(data, work, rng, terms)])
        return fitted

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
                yield from self._train(params, work, together[0][2], tasks)

    def score(self, params: Vector, data: Split) -> Scores:
        with tf.device(self._devices.groups[0][0]):
            pieces = [
                self._score(params, data.x[at : at + _SCORED_ROWS], data.y[at : at + _SCORED_ROWS])
                for at in range(0, len(data), _SCORED_ROWS)
            ]
        names = ("loss", self._objective.score_name)
        return {
            name: np.concatenate([piece.numpy() for piece in column])
            for name, column in zip(names, zip(*pieces, strict=True), strict=True)
        }

    def _built(self, precision: Precision) -> keras.Model:
        with tf.device(HOST):
            model = build_seeded(self._spec, self._inputs, self._classes, 0, precision)
        check_precision(model, precision)
        if self._devices.type == "cpu":
            off_cudnn(model)
            tile_pools(model)
        return model

    def _train(
        self, params: Vector, work: LocalTraining, terms: Terms, tasks: Sequence[Task | PrivateTask]
    ) -> list[Fitted]:
        with self._turns.taken() as group, tf.device(self._devices.groups[group][0]):
            outcomes = self._loop(work, terms, group).train(params, tasks, self._resident[group])
        return [Fitted(one.params, {} if one.loss is None else {"train_loss": one.loss}) for one in outcomes]

    def _task(self, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms) -> Task | PrivateTask:
        if work.dp_sgd is not None:
            return private_task(data, work, work.dp_sgd, self._layout.states, rng, terms)
        rows = len(data)
        steps = terms.steps or work.asked(rows)
        order = np.stack([rng.permutation(rows) for _ in range(-(-steps // work.epoch(rows)))]).astype(np.int32)
        seeds = rng.integers(0, 2**31, size=(self._layout.states, 2)).astype(np.int32)
        linear = np.empty(0, np.float32) if terms.linear is None else terms.linear
        return Task(
            data, Course(order, work.batch(rows), steps, max(steps, work.asked(rows)), seeds, terms.factor, linear)
        )

    def _loop(self, work: LocalTraining, terms: Terms, group: int = 0) -> LocalLoop:
        """Compiled once for every kind of step; where devices train together, once for every group of them."""
        linear, together = terms.linear is not None, self._devices.groups[group]
        own = group if len(together) > 1 else 0
        key = f"{work.optimizer.model_dump_json()} {work.clip_examples} {work.dp_sgd} {terms.proximal} {linear} {own}"
        with self._lock, tf.device(HOST):
            if key not in self._loops:
                gradients = self._gradients(work, together)
                step = LocalStep(self._layout, gradients, self._optimizer(work), terms.proximal, linear)
                self._loops[key] = self._looped(step, work)
            return self._loops[key]

    def _looped(self, step: LocalStep, work: LocalTraining) -> LocalLoop:
        if work.dp_sgd is not None:
            return PrivateLoop(step, self._clipped_sum(work.dp_sgd), work.dp_sgd, self._rows)
        way, plain = self._way(work), GraphLoop(step, self._rows)
        if way == "vectorized":
            return VectorizedLoop(step, self._rows, plain)
        return PaddedLoop(step) if way == "xla" else plain

    def _way(self, work: LocalTraining) -> Compilation:
        return compilation_for(work, self._asked, self._compilation, self._model)

    def _optimizer(self, work: LocalTraining) -> keras.optimizers.Optimizer:
        return stateless_optimizer(work.optimizer, self._model)

    def _gradients(self, work: LocalTraining, together: tuple[str, ...]) -> Gradients:
        model = for_lanes(self._trained) if self._way(work) == "vectorized" else self._trained
        found: Gradients = MeanGradient(model, self._objective, LOSS_SCALES[self._precision])
        if work.clip_examples is not None:
            in_turn = loops_over_embeddings(self._trained)
            found = ClippedExamples(found, self._layout, work.clip_examples, in_turn=in_turn)
        return found if len(together) == 1 else DataParallel(found, self._layout, together)

    def _clipped_sum(self, how: DpSgd) -> ClippedSum:
        if len(self._devices.groups[0]) > 1:
            raise PlanError("replicas: dp_sgd trains a client on one device; set replicas to 1")
        # One's own loss may look at the whole batch.
        by_rows = takes_dense(self._trained) and not isinstance(self._objective, OwnLoss)
        if by_rows and self._precision == "float32":
            dense = DenseExamples(self._trained, self._objective, how.norm)
            # XLA takes the sums; normal numbers it draws several times as slowly as the graph around them.
            return tf.function(dense, autograph=False, jit_compile=True) if self._found == "xla" else dense
        one = MeanGradient(self._trained, self._objective, LOSS_SCALES[self._precision])
        in_turn = loops_over_embeddings(self._trained)
        return ClippedExamples(one, self._layout, how.norm, forgiving=True, in_turn=in_turn).summed

    def _score_rows(self, params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        unused_seeds = tf.zeros([self._layout.states, 2], tf.int32)
        trainable, state = self._layout.unpack(params, unused_seeds)
        outputs, _ = self._model.stateless_call(trainable, state, x, training=False)
        return self._objective.loss(y, outputs), self._objective.score(y, outputs)
