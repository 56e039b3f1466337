"""From stored labels to classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from federated.errors import DataError


def classes(
    field: str, values: NDArray[Any], names: tuple[str, ...] | None
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Class numbers of shape (rows,), and what the classes are called.

    With ``names`` the values are the numbers 0 … C-1 of these names. Without, classes are the distinct values, sorted.

    Raises:
        DataError: the values are no names or whole numbers, or lie outside the range of ``names``.
    """
    if values.dtype.kind not in "biufU":
        raise DataError(f"{field}: expected whole numbers or names as classes, got values of type {values.dtype}")
    if values.dtype.kind == "f" and (fractions := _fractions(values)).size:
        raise DataError(
            f"{field}: expected whole numbers or names as classes, got {fractions[0]:g}; "
            "for measured values use task: regression"
        )
    found, codes = np.unique(values, return_inverse=True)
    if names is None:
        return codes.astype(np.int32), tuple(_name(label) for label in found)
    if found.dtype.kind == "U" or (found.size and not 0 <= found[0] <= found[-1] < len(names)):
        raise DataError(
            f"{field}: {len(names)} classes are named, so that labels must lie in 0 … {len(names) - 1}, "
            f"got {found[0]} … {found[-1]}"
        )
    return values.astype(np.int32), names


def _name(label: Any) -> str:
    return str(int(label)) if label.dtype.kind in "iuf" else str(label)


def _fractions(values: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):  # infinity is no whole number either
        return np.asarray(values[values % 1 != 0])
