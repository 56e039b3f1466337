"""A ``.keras`` file for many sets of weights of one model, without Keras' walk through the model for each."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from numpy.typing import NDArray

_WEIGHTS = "model.weights.h5"
_FIRST_MARK = 1000.5  # no layer starts its weights there


class KerasFile:
    """What Keras saves of a model, and where in it each of ``variables`` lies.

    That is seen from a file in which each variable is full of a number of its own. Equal weights give equal bytes.
    """

    def __init__(self, model: keras.Model, variables: Sequence[Any]) -> None:
        self._model, self._variables = model, variables
        for mark, variable in enumerate(variables):
            variable.assign(np.full(variable.shape, _FIRST_MARK + mark))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            model.save(path)
            with zipfile.ZipFile(path) as archive:
                self._parts = [(part, archive.read(part)) for part in archive.infolist()]
        self._weights = next(content for part, content in self._parts if part.filename == _WEIGHTS)
        self._lies_at = self._find()
        self._is_plain = set(self._lies_at.values()) == set(range(len(variables)))

    def write(self, values: Sequence[NDArray[np.float32]], path: Path) -> None:
        """Writes a file with these values of the variables."""
        if self._is_plain:
            self._rewrite(values, path)
            return
        for variable, value in zip(self._variables, values, strict=True):  # a layer has its own way of saving
            variable.assign(value)
        self._model.save(path)

    def _find(self) -> dict[str, int]:
        """The variable that each dataset of the weights holds."""
        with h5py.File(io.BytesIO(self._weights)) as weights:
            return {
                name: mark
                for name, dataset in _datasets(weights)
                for mark, variable in enumerate(self._variables)
                if dataset.shape == tuple(variable.shape) and np.all(dataset[()] == _FIRST_MARK + mark)
            }

    def _rewrite(self, values: Sequence[NDArray[np.float32]], path: Path) -> None:
        buffer = io.BytesIO(self._weights)
        with h5py.File(buffer, "r+") as weights:
            for name, variable in self._lies_at.items():
                weights[name][...] = values[variable]
        with zipfile.ZipFile(path, "w") as archive:
            for part, content in self._parts:
                archive.writestr(part, buffer.getbuffer() if part.filename == _WEIGHTS else content)


def _datasets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []
    group.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    yield from found
