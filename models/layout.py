"""How a Keras model's weights lie in one flat vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector


class Layout:
    """The trainable weights in Keras' order, then the other weights (moving statistics).

    Keras also counts the seeds of dropout and the like as state. They are no part of the vector: whoever trains draws
    them afresh, shape (``states``, 2). ``layers`` says how many trainable weights each of Keras' layers has.
    """

    def __init__(self, model: keras.Model) -> None:
        weights = {id(variable) for variable in model.weights}
        self._state_types = [variable.dtype for variable in model.non_trainable_variables]
        self._is_statistic = [id(variable) in weights for variable in model.non_trainable_variables]
        self._shapes = [tuple(variable.shape) for variable in variables(model)]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        self._trainables = len(model.trainable_variables)
        self.states = len(self._state_types)
        self.size = sum(self._sizes)
        self.trainable = sum(self._sizes[: self._trainables])
        self.layers = tuple(
            sum(int(np.prod(variable.shape)) for variable in together)
            for _, together in groupby(model.trainable_variables, lambda variable: variable.path.rpartition("/")[0])
        )

    def read(self, model: keras.Model) -> Vector:
        """The weights of ``model`` as a vector of shape (size,)."""
        pieces = [np.ravel(np.asarray(value)) for value in variables(model)]
        return np.concatenate(pieces).astype(np.float32)

    def write(self, model: keras.Model, params: Vector) -> None:
        """Gives ``model`` the weights of a vector of shape (size,)."""
        for variable, value in zip(variables(model), self.split(params), strict=True):
            variable.assign(value)

    def split(self, params: Vector) -> list[NDArray[np.float32]]:
        """A vector of shape (size,) as the value of each variable."""
        pieces = np.split(params, np.cumsum(self._sizes)[:-1])
        return [piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]

    def unpack(self, params: Any, seeds: Any) -> tuple[list[Any], list[Any]]:
        """Inside a graph: the two lists that Keras' ``stateless_call`` takes."""
        weights = self._weights(params, len(self._sizes))
        statistics = iter(weights[self._trainables :])
        state = list(self._state(statistics, seeds))
        return weights[: self._trainables], state

    def unpack_trainable(self, vector: Any) -> list[Any]:
        """Inside a graph: a vector of shape (trainable,) by trainable weight."""
        return self._weights(vector, self._trainables)

    def pack(self, trainable: Sequence[Any], state: Sequence[Any]) -> Any:
        """Inside a graph: the vector again, without seeds."""
        kept = [value for value, keep in zip(state, self._is_statistic, strict=True) if keep]
        return tf.concat([tf.reshape(value, [-1]) for value in [*trainable, *kept]], axis=0)

    def _weights(self, vector: Any, count: int) -> list[Any]:
        pieces = tf.split(vector, self._sizes[:count])
        return [tf.reshape(piece, shape) for piece, shape in zip(pieces, self._shapes[:count], strict=True)]

    def _state(self, statistics: Iterator[Any], seeds: Any) -> Iterator[Any]:
        for position, is_statistic in enumerate(self._is_statistic):
            dtype = self._state_types[position]
            yield next(statistics) if is_statistic else tf.cast(seeds[position], dtype)


def variables(model: keras.Model) -> list[Any]:
    """Those that a layout describes, in its order."""
    return [*model.trainable_variables, *model.non_trainable_weights]
