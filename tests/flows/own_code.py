"""What a user would bring: a loader, a model and a rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from federated.component import Step, Vector
from federated.data import Dataset, Split
from federated.rules import Rule
from federated.sources import Digits
from federated.updates import Update


def load(rows: int) -> Dataset:
    """Three classes on a line."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, rows)
    x = rng.normal(y[:, np.newaxis] * 2.0, 0.3, (rows, 2))
    return Dataset(Split(x.astype(np.float32), y.astype(np.int32)), ("low", "middle", "high"), "own code")


def build(inputs: tuple[int, ...], classes: int | None, width: int) -> Any:
    """A small model with what Keras layers bring: moving statistics and dropout."""
    import keras

    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(classes),
        ]
    )


class Median(Rule):
    """The coordinate-wise median."""

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return Step(state, np.median([update.delta for update in updates], axis=0).astype(np.float32), {})


def poisoned_digits() -> Dataset:
    """Digits of five clients, one of which scaled its images until they overflow."""
    digits = Digits().load()
    keys = np.array(["poisoned", "a", "b", "c", "d"])[np.arange(len(digits.rows)) % 5]
    scale = np.where(keys == "poisoned", np.float32(1e30), np.float32(1)).reshape(-1, 1, 1, 1)
    return Dataset(Split(digits.rows.x * scale, digits.rows.y), digits.labels, "poisoned digits", keys)
