"""Columns of a table as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from federated.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Encoding = Literal["one_hot", "dummy", "ordinal"]
"""How levels become numbers: a column of 0 and 1 each; the same without the first; or their places, from 0."""

_TOLD = 20
"""So many names are told where none is close."""


def require(field: str, where: str, column: str, columns: Iterable[str]) -> None:
    """Refuses a column that is not there.

    Raises:
        DataError: with the column that was meant, or those that there are.
    """
    known = list(columns)
    if column not in known:
        close = get_close_matches(column, known)
        more = " …" if len(known) > _TOLD else ""
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known[:_TOLD])}{more}"
        raise DataError(f"{field}: {where} has no column {column!r}; {hint}")


def numbers(field: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Columns of numbers and truth values, shape (rows, columns); NaN where there is no value.

    Raises:
        DataError: there is text in one.
    """
    words = [str(name) for name in table.columns if table[name].dtype.kind not in "iufb"]
    if words:
        raise DataError(
            f"{field}: expected numbers, got text in {', '.join(words)}; "
            "encode them as numbers (categorical) or leave them out of features"
        )
    return table.to_numpy(np.float64, na_value=np.nan)


def encode(
    field: str, table: pd.DataFrame, names: Sequence[str], categorical: Mapping[str, Encoding]
) -> NDArray[np.float64]:
    """The columns called ``names``, in that order, those of levels encoded; NaN where there is no value.

    Of shape (rows, features).

    Raises:
        DataError: there is text in a column that is not ``categorical``.
    """
    plain = [name for name in names if name not in categorical]
    parts = dict(zip(plain, numbers(field, table[plain]).T[:, :, np.newaxis], strict=True))
    parts |= {name: _encoded(table[name], how) for name, how in categorical.items()}
    return np.concatenate([parts[name] for name in names], axis=1)


def distinct(column: pd.Series[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The values that a column has, sorted, and which of them is in each row."""
    values = column.to_numpy()
    if values.dtype.kind == "O":  # words; or words in one file and numbers in another
        values = column.astype(str).to_numpy(np.str_)
    return np.unique(values, return_inverse=True)


def _encoded(column: pd.Series[Any], how: Encoding) -> NDArray[np.float64]:
    levels, codes = distinct(column)
    if how == "ordinal":
        return codes[:, np.newaxis].astype(np.float64)
    return np.eye(len(levels))[codes][:, 1 if how == "dummy" else 0 :]
