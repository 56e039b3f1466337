"""Small data, and the ways around the engine: batches in its order, weights in and out of Keras."""

import keras
import numpy as np

from federated.component import Vector
from federated.data import Split
from federated.local_training import LocalTraining


def classified(rows: int, features: int, classes: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    return Split(x, rng.integers(0, classes, rows).astype(np.int32))


def valued(rows: int, features: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    return Split(x, rng.normal(size=rows).astype(np.float32))


def weights(size: int, seed: int = 1) -> Vector:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def orders(rows: int, epochs: int, seed: int) -> list[np.ndarray]:
    """One permutation of the rows an epoch, as the engine draws them."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(rows) for _ in range(epochs)]


def batches(rows: int, work: LocalTraining, seed: int) -> list[list[np.ndarray]]:
    """The rows of every batch, by epoch."""
    size = work.batch_size or rows
    return [
        [order[start : start + size] for start in range(0, rows, size)] for order in orders(rows, work.epochs, seed)
    ]


def fill(model: keras.Model, params: Vector) -> None:
    """Gives a Keras model the weights of a vector."""
    start = 0
    for variable in [*model.trainable_variables, *model.non_trainable_weights]:
        count = int(np.prod(variable.shape))
        variable.assign(params[start : start + count].reshape(variable.shape))
        start += count
    if start != params.size:
        raise ValueError(f"the model has {start} weights, the vector {params.size}")


def flat(model: keras.Model) -> Vector:
    """The weights of a Keras model as a vector."""
    variables = [*model.trainable_variables, *model.non_trainable_weights]
    return np.concatenate([np.ravel(variable.numpy()) for variable in variables])
