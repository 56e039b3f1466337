"""The gradient of one client's batch, computed by several devices together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from federated.errors import PlanError
from models.gradients import Gradients, Slope, after_draws, seeds_from
from models.layout import Layout


class DataParallel:
    """Another gradient, of whose batches each of ``devices`` takes a part; the parts differ by one row at most.

    A part counts by its rows, so that the sum is the gradient of the whole batch but for rounding, whatever its size.
    A part's dropout goes by the number of its first row: no two parts of a batch draw the same.
    Parts are added up on the first device, always in the same order: the same devices give the same bits.

    Raises:
        PlanError: the model has moving statistics, for which each device would see its own part.
    """

    def __init__(self, gradients: Gradients, layout: Layout, devices: Sequence[str]) -> None:
        if layout.size > layout.trainable:
            raise PlanError(
                "replicas: the model has weights that no gradient moves (batch normalisation, frozen layers), and each "
                "device would see a part of each batch; use group normalisation, or replicas: 1"
            )
        self._gradients, self._replicas = gradients, len(devices)
        # All-reduce would bring the sum to every device, in an order of its own; one of them takes the step.
        one_adds_up = tf.distribute.ReductionToOneDevice()
        self._strategy = tf.distribute.MirroredStrategy(list(devices), cross_device_ops=one_adds_up)

    def __call__(self, trainable: list[Any], state: list[Any], x: Any, y: Any, counts: Any = None) -> Slope:
        if counts is not None:
            raise ValueError("several devices train on batches of their true size, got padded ones; compile a graph")
        gradients, loss = self._strategy.run(self._part, args=(trainable, state, x, y))
        return Slope([self._sum(gradient) for gradient in gradients], after_draws(state), self._sum(loss))

    def _part(self, trainable: list[Any], state: list[Any], x: Any, y: Any) -> tuple[list[Any], Any]:
        """One device's share of the gradient and of the summed loss.

        Where there are fewer rows than devices, some take a row that counts for nothing.
        """
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.shape(x)[0]
        start, end = rows * replica // self._replicas, rows * (replica + 1) // self._replicas
        own = slice(start, tf.maximum(end, start + 1))
        slope = self._gradients(trainable, seeds_from(start, state), x[own], y[own])
        share = tf.cast(end - start, tf.float32) / tf.cast(rows, tf.float32)
        return [share * gradient for gradient in slope.gradients], tf.cast(end > start, tf.float32) * slope.loss

    def _sum(self, parts: Any) -> Any:
        return self._strategy.reduce("SUM", parts, axis=None)
