"""What the contestants train: images of Fashion-MNIST's shape, and two models of the FedAvg paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from federated.data import Dataset

SHAPE, CLASSES = (28, 28, 1), 10
CLIENTS, ROWS, COHORT, BATCH, RATE = 100, 600, 10, 10, 0.05


@cache
def client_rows(client: int, rows: int = ROWS) -> tuple[Any, Any]:
    """A client's images, shape (rows, 28, 28, 1), and labels. Random: arithmetic takes as long on them as on others."""
    rng = np.random.default_rng(client)
    return rng.random((rows, *SHAPE), dtype=np.float32), rng.integers(0, CLASSES, rows).astype(np.int32)


def load(clients: int, rows: int, seed: int) -> Dataset:
    """Such images for a plan with this seed and the smallest holdout: ``rows`` for each client to train on.

    Each client has one more, which it tests on; the server holds the two rows that its holdout would take.
    """
    from federated.data import Dataset, Split

    count, rng = clients * (rows + 1) + 2, np.random.default_rng(seed)
    split = Split(rng.random((count, *SHAPE), dtype=np.float32), rng.integers(0, CLASSES, count).astype(np.int32))
    labels = tuple(str(number) for number in range(CLASSES))
    order = np.argsort(Dataset(split, labels, "data").numbers(seed), kind="stable")
    keys = np.empty(count, dtype="<U16")
    keys[order] = [f"client-{place % clients:05}" for place in range(count)]
    return Dataset(split, labels, "data", keys)


def keras_model(name: str) -> Any:
    """A compiled Keras model: ``2nn`` or ``cnn``."""
    import keras

    layers = keras.layers
    dense = [layers.Flatten(), layers.Dense(200, "relu"), layers.Dense(200, "relu")]
    convolutional = [
        layers.Conv2D(32, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(512, "relu"),
    ]
    hidden = dense if name == "2nn" else convolutional
    model = keras.Sequential([keras.Input(SHAPE), *hidden, layers.Dense(CLASSES)])
    model.compile(keras.optimizers.SGD(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def parameters(sizes: Sequence[int]) -> Any:
    """A flat vector to begin with."""
    return np.random.default_rng(0).normal(0, 0.05, sum(sizes)).astype(np.float32)
