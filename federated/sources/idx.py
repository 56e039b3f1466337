"""The format of MNIST's files (LeCun et al. 1998)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.classes import classes
from federated.sources.reading import content
from federated.sources.source import Source
from federated.variables import location

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

_MOST = 32
"""Dimensions that an array may have; NumPy takes a few more."""


class Idx(Source):
    """Images and labels in IDX files, packed by gzip or not: MNIST, Fashion-MNIST, KMNIST, EMNIST.

    ``path`` is their folder, where ``${NAME}`` is the environment's; a name is also looked up with ``.gz`` behind it.
    Values stay as stored, 0 … 255 for bytes (``scaling: {kind: divide, by: 255}``). Images of shape (height, width) get
    a channel. Rows of the test files are reserved; ``test_images`` and ``test_labels`` null: there are none. ``names``
    are those of the classes 0 … C-1.
    """

    kind: Literal["idx"] = "idx"
    path: Path
    images: str = "train-images-idx3-ubyte"
    labels: str = "train-labels-idx1-ubyte"
    test_images: str | None = "t10k-images-idx3-ubyte"
    test_labels: str | None = "t10k-labels-idx1-ubyte"
    names: tuple[str, ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _tests_come_in_pairs(self) -> Self:
        if (self.test_images is None) != (self.test_labels is None):
            raise ValueError("test_images and test_labels come together; name both, or null for both")
        return self

    def load(self) -> Dataset:
        parts = [self._part("images", "labels")]
        if self.test_images is not None:
            parts.append(self._part("test_images", "test_labels"))
        shapes = [images.shape[1:] for images, _ in parts]
        if shapes[0] != shapes[-1]:
            raise DataError(
                f"data.idx.test_images: expected examples of shape {shapes[0]}, {self.test_images} has {shapes[-1]}"
            )
        x = np.concatenate([images for images, _ in parts], dtype=np.float32, casting="same_kind")
        y, names = classes(f"data.idx.labels: {self.path}", np.concatenate([labels for _, labels in parts]), self.names)
        reserved = np.arange(len(y)) >= len(parts[0][1]) if len(parts) > 1 else None
        return Dataset(Split(x[..., None] if x.ndim == 3 else x, y), names, f"data.idx {self.path}", reserved=reserved)

    def _part(self, images_field: str, labels_field: str) -> tuple[NDArray[Any], NDArray[Any]]:
        images, labels = self._array(images_field), self._array(labels_field)
        if labels.ndim != 1 or images.ndim < 2:
            raise DataError(
                f"data.idx.{images_field}: expected images of 2 dimensions or more and labels of 1; "
                f"{getattr(self, images_field)} has {images.ndim} and {getattr(self, labels_field)} {labels.ndim}"
            )
        if len(images) != len(labels):
            raise DataError(
                f"data.idx.{labels_field}: {getattr(self, images_field)} has {len(images)} images, "
                f"but {getattr(self, labels_field)} has {len(labels)} labels"
            )
        return images, labels

    def _array(self, field: str) -> NDArray[Any]:
        path = location("data.idx.path", self.path) / getattr(self, field)
        packed = path.with_name(path.name + ".gz")
        found = packed if packed.is_file() and not path.is_file() else path
        return parse(f"data.idx.{field}", found, content(f"data.idx.{field}", found))


def parse(field: str, path: Path, held: bytes) -> NDArray[Any]:
    """The array in an IDX file: two zero bytes, a type, the number of dimensions, the dimensions, the values.

    All are big-endian.

    Raises:
        DataError: it is no such file, or of another length than its header says.
    """
    if len(held) < 4 or held[:2] != b"\0\0" or held[2] not in _TYPES or not 0 < held[3] <= _MOST:
        raise DataError(
            f"{field}: expected an IDX file, which begins with 00 00, a type from 08 to 0e and its number of "
            f"dimensions, at most {_MOST}; {path} begins with {held[:4].hex(' ') or 'nothing'}"
        )
    kind, start = np.dtype(_TYPES[held[2]]), 4 + 4 * held[3]
    if len(held) < start:
        raise DataError(f"{field}: {path} is truncated: expected a header of {start} bytes, it has {len(held)}")
    shape = tuple(int(size) for size in np.frombuffer(held[4:start], ">u4"))
    told = start + kind.itemsize * math.prod(shape)
    if len(held) != told:
        what = "is truncated" if len(held) < told else "is too long"
        raise DataError(f"{field}: {path} {what}: expected {told} bytes for shape {shape}, it has {len(held)}")
    return np.frombuffer(held, kind, offset=start).reshape(shape)
