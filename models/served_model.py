"""The model that leaves the training: raw rows in, probabilities or a value out."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from federated.component import Vector
from federated.scaling import Affine
from models.architecture import Model, Shape, build_seeded
from models.keras_file import KerasFile
from models.layout import Layout, variables
from models.objectives import objective


class ServedModel:
    """An architecture with its scaling in front and its activation behind, built once for many sets of weights.

    Not for use from several threads at a time.
    """

    def __init__(self, spec: Model, inputs: Shape, classes: int | None, scaling: Affine) -> None:
        self._core = build_seeded(spec, inputs, classes, seed=0)
        self._layout = Layout(self._core)
        rows = keras.Input(inputs)
        outputs = self._core(_scaled(rows, scaling))
        activation = objective(classes).activation()
        self.model = keras.Model(rows, outputs if activation is None else activation(outputs))
        self._file = KerasFile(self.model, variables(self._core))

    @property
    def output_units(self) -> int:
        """Width of a prediction."""
        return int(self.model.output_shape[-1])

    def save(self, params: Vector, path: Path) -> None:
        """Writes a ``.keras`` file of stock layers."""
        self._file.write(self._layout.split(params), path)

    def predict(self, params: Vector, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions for raw rows, shape (rows, output_units)."""
        self._layout.write(self._core, params)
        return np.asarray(self.model(rows, training=False))


def _scaled(rows: keras.KerasTensor, scaling: Affine) -> keras.KerasTensor:
    """Two stock layers that subtract and divide as training does; Keras' Normalization floors small deviations."""
    centred = keras.layers.Rescaling(1.0, offset=-scaling.mean, name="centre")(rows)
    return keras.layers.Rescaling(1.0 / scaling.std, name="scale")(centred)
