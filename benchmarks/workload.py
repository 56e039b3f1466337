"""What the contestants train: images of Fashion-MNIST's shape, and two models of the FedAvg paper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

SHAPE, CLASSES = (28, 28, 1), 10
CLIENTS, ROWS, COHORT, BATCH, RATE = 100, 600, 10, 10, 0.05


@cache
def client_rows(client: int) -> tuple[Any, Any]:
    """A client's images, shape (rows, 28, 28, 1), and labels. Random: arithmetic takes as long on them as on others."""
    rng = np.random.default_rng(client)
    return rng.random((ROWS, *SHAPE), dtype=np.float32), rng.integers(0, CLASSES, ROWS).astype(np.int32)


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
