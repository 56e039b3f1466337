"""NumPy's archives of arrays."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.classes import classes
from federated.sources.reading import content, hint, reason
from federated.sources.source import Source

_ARRAYS = ("x", "y", "keys", "x_test", "y_test", "keys_test")
"""Fields that name an array of the archive."""

_DAMAGE = (
    ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError
)  # fmt: skip
"""What NumPy and zipfile raise for files that are damaged, encrypted, or packed in a way that they do not know."""


class _Part(NamedTuple):
    x: NDArray[np.float32]
    y: NDArray[Any]
    keys: NDArray[np.str_] | None


class Npz(Source):
    """Arrays that NumPy saved, called by their names in the archive. Pickled objects are never loaded.

    ``x`` has numbers of shape (rows, …), ``y`` a target a row. ``shape`` is that of one example, where it is another
    than the stored one. ``keys`` says whose row it is. Rows of ``x_test`` and ``y_test`` are reserved. Classes are the
    distinct values of ``y``, sorted; or 0 … C-1 with ``names``.
    """

    kind: Literal["npz"] = "npz"
    path: Path
    x: str = "x"
    y: str = "y"
    task: Literal["classification", "regression"] = "classification"
    names: tuple[str, ...] | None = Field(default=None, min_length=2, description="of the classes 0 … C-1")
    shape: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(default=None, min_length=1)
    keys: str | None = Field(default=None, description="array that says whose row it is")
    x_test: str | None = None
    y_test: str | None = None
    keys_test: str | None = None

    @model_validator(mode="after")
    def _tests_are_complete(self) -> Self:
        if (self.x_test is None) != (self.y_test is None):
            raise ValueError("x_test and y_test come together; name both or none")
        if (self.keys_test is not None) != (self.keys is not None and self.x_test is not None):
            raise ValueError("keys_test is needed where there are keys and x_test, and only there")
        if self.names is not None and self.task == "regression":
            raise ValueError("names are of classes, which a regression has not; leave them out")
        return self

    def load(self) -> Dataset:
        arrays = self._arrays()
        parts = [self._part(arrays, suffix) for suffix in (("", "_test") if self.x_test else ("",))]
        if parts[0].x.shape[1:] != parts[-1].x.shape[1:]:
            raise DataError(
                f"data.npz.x_test: expected shape {parts[0].x.shape[1:]} a row, {self.path} has {parts[-1].x.shape[1:]}"
            )
        y, labels = self._targets(np.concatenate([part.y for part in parts]))
        named = [part.keys for part in parts if part.keys is not None]
        keys = np.concatenate(named) if named else None
        reserved = np.arange(len(y)) >= len(parts[0].y) if len(parts) > 1 else None
        x = np.concatenate([part.x for part in parts])
        return Dataset(Split(x, y), labels, f"data.npz {self.path}", keys, reserved)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are asked for, by their fields."""
        held = io.BytesIO(content("data.npz.path", self.path))
        if not zipfile.is_zipfile(held):
            raise DataError(f"data.npz.path: expected an NPZ file, {self.path} is none, or is truncated")
        asked = {field: str(name) for field in _ARRAYS if (name := getattr(self, field)) is not None}
        try:
            archive = np.load(held, allow_pickle=False)
        except _DAMAGE as error:
            raise DataError(
                f"data.npz.path: expected an NPZ file, {self.path} is damaged ({reason(error)}); fetch it again"
            ) from error
        with archive:
            return {field: self._array(archive, field, name) for field, name in asked.items()}

    def _array(self, archive: Any, field: str, name: str) -> NDArray[Any]:
        if name not in archive.files:
            raise DataError(f"data.npz.{field}: {self.path} has no array {name!r}; {hint(name, archive.files)}")
        try:
            return np.asarray(archive[name])
        except _DAMAGE as error:
            raise DataError(
                f"data.npz.{field}: expected a whole array of numbers or text, cannot read {name!r} of {self.path} "
                f"({reason(error)})"
            ) from error

    def _part(self, arrays: dict[str, NDArray[Any]], suffix: str) -> _Part:
        x, y = self._numbers(f"x{suffix}", arrays[f"x{suffix}"]), arrays[f"y{suffix}"]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or x.ndim == 0 or len(x) != len(y):
            raise DataError(
                f"data.npz.y{suffix}: expected a target a row, {self.path} has features of shape {x.shape} and "
                f"targets of shape {y.shape}"
            )
        return _Part(self._shaped(x), y, self._keys(f"keys{suffix}", arrays, len(y)))

    def _shaped(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.shape is None:
            return x
        if math.prod(x.shape[1:]) != math.prod(self.shape):
            raise DataError(
                f"data.npz.shape: a row of {self.path} has shape {x.shape[1:]}, which cannot become {self.shape}"
            )
        return x.reshape(len(x), *self.shape)

    def _numbers(self, field: str, values: NDArray[Any]) -> NDArray[np.float32]:
        if values.dtype.kind not in "biuf":
            raise DataError(f"data.npz.{field}: expected numbers, {self.path} has values of type {values.dtype}")
        with np.errstate(over="ignore"):  # too large becomes infinite, which the dataset refuses
            return values.astype(np.float32)

    def _targets(self, y: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        if self.task == "regression":
            return self._numbers("y", y), None
        return classes(f"data.npz.y: {self.path}", y, self.names)

    def _keys(self, field: str, arrays: dict[str, NDArray[Any]], rows: int) -> NDArray[np.str_] | None:
        if field not in arrays:
            return None
        keys = arrays[field]
        if keys.shape != (rows,) or keys.dtype.kind not in "iuU":
            raise DataError(
                f"data.npz.{field}: expected a name or whole number for each of {rows} rows, "
                f"got {keys.dtype} of shape {keys.shape}"
            )
        return keys.astype(np.str_)
