"""What a local training consists of, and one step of it, from values to values."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from models.gradients import Gradients, Slope
from models.layout import Layout
from models.stateless_optimizers import fresh_slots, place_of_rate


def rounded_up(count: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16 …: at most half as much again."""
    power = 1 << (count - 1).bit_length()
    return power * 3 // 4 if count <= power * 3 // 4 else power


class Course(NamedTuple):
    """What a local training does with its rows.

    ``order`` says which row comes when, shape (epochs, rows); ``batch`` is how many come at a time, fewer at the end of
    an epoch; ``steps`` are taken, of ``most`` that the plan asks. ``seeds`` are dropout's and the like, shape
    (states, 2). ``factor`` multiplies the learning rate, and ``linear`` is added to every gradient: shape (trainable,),
    or (0,) where there is nothing to add.
    """

    order: NDArray[np.int32]
    batch: int
    steps: int
    most: int
    seeds: NDArray[np.int32]
    factor: float
    linear: Vector

    @property
    def width(self) -> int:
        """A batch with its padding: a function of the client alone, or its bits would depend on its neighbours."""
        rows = self.order.shape[1]
        return self.batch if self.batch < rows else rounded_up(rows)

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

    def deal(self, places: NDArray[np.int32], counts: NDArray[np.float32]) -> None:
        """Writes which row stands at each place of each step, and 1 where one does.

        Both are contiguous, of shape (steps, width): steps of whole epochs or more, and a batch wide or more.
        """
        (epochs, rows), width = self.order.shape, places.shape[1]
        numbers, begins = np.arange(rows), np.arange(epochs) * self.epoch * width
        dealt = begins[:, None] + numbers // self.batch * width + numbers % self.batch
        places.reshape(-1)[dealt], counts.reshape(-1)[dealt] = self.order, 1


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

    def begin(self, params: Any, seeds: Any, factor: Any) -> Carried:
        """What the first step takes over."""
        trainable, state = self.layout.unpack(params, seeds)
        slots = [tf.constant(value) for value in self._fresh_slots]
        if self._rate is not None:
            slots[self._rate] *= factor
        return Carried(trainable, state, slots)

    def pull(self, params: Any, linear: Any) -> Pull:
        """What every step adds to its gradients."""
        origin = self.layout.unpack_trainable(params[: self.layout.trainable])
        return Pull(self._proximal, origin, self.layout.unpack_trainable(linear) if self.linear_size else [])

    def __call__(self, carried: Carried, pull: Pull, x: Any, y: Any, counts: Any = None) -> tuple[Carried, Any]:
        """What the next step takes over, and the batch's summed loss. Rows whose ``counts`` is 0 are padding."""
        slope = self._gradients(carried.trainable, carried.state, x, y, counts)
        return self.along(slope, carried, pull), slope.loss

    def along(self, slope: Slope, carried: Carried, pull: Pull) -> Carried:
        """What the next step takes over, after one along ``slope``."""
        gradients = pull(slope.gradients, carried.trainable)
        trainable, slots = self._optimizer.stateless_apply(carried.slots, gradients, carried.trainable)
        return Carried(list(trainable), list(slope.state), list(slots))

    def end(self, carried: Carried) -> Any:
        """The trained vector."""
        return self.layout.pack(carried.trainable, carried.state)
