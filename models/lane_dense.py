"""Dense layers whose gradients do not depend, to the last bit, on where in a stack of clients they stand."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from models.architecture import BUILDING


class LaneDense(keras.layers.Dense):
    """A dense layer that has its bias as one more row of the kernel, for inputs with one more column, of ones.

    The gradient of a bias is then a matrix product, too. As a sum over the batch, its order of summation follows from
    the alignment of memory, and so from the lane that a client trains in.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if not self.use_bias:
            return super().call(inputs, training)
        ones = ops.ones((*ops.shape(inputs)[:-1], 1), inputs.dtype)
        weights = ops.concatenate([self.kernel, self.bias[None]], axis=0)
        return self.activation(ops.matmul(ops.concatenate([inputs, ones], axis=-1), weights))


def for_lanes(model: keras.Model) -> keras.Model:
    """The same architecture, of lane-dense layers in place of dense ones, with its weights in the same order."""
    with BUILDING:
        return keras.models.clone_model(model, clone_function=_cloned)


def _cloned(layer: keras.Layer) -> keras.Layer:
    kind = LaneDense if type(layer) is keras.layers.Dense else type(layer)
    return kind.from_config(layer.get_config())
