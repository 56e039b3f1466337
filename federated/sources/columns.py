"""Columns of a table as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from federated.errors import DataError, row

if TYPE_CHECKING:
    import pandas as pd

Encoding = Literal["one_hot", "dummy", "ordinal"]
"""How levels become numbers: a column of 0 and 1 each; the same without the first; or their places, from 0."""


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"each column may be named once, got {list(names)}")
    return names


Columns = Annotated[tuple[str, ...], AfterValidator(_each_once)]
"""Names of columns in a plan, each once."""


class Encoded(NamedTuple):
    """Features of shape (rows, features), NaN where there is no value; and what each is called."""

    values: NDArray[np.float64]
    names: tuple[str, ...]


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
    columns = [str(name) for name in table.columns if table[name].dtype.kind not in "iufb"]
    if columns:
        raise DataError(
            f"{field}: expected numbers, got text in {', '.join(columns)}{_first_word(table[columns[0]])}; "
            "encode them as numbers (categorical) or leave them out of features"
        )
    return table.to_numpy(np.float64, na_value=np.nan)


def encode(field: str, table: pd.DataFrame, names: Sequence[str], categorical: Mapping[str, Encoding]) -> Encoded:
    """The columns called ``names``, in that order, those of levels encoded: ``column=level``.

    Raises:
        DataError: there is text in a column that is not ``categorical``.
    """
    plain = [name for name in names if name not in categorical]
    columns = zip(plain, numbers(field, table[plain]).T[:, :, np.newaxis], strict=True)
    parts = {name: Encoded(values, (name,)) for name, values in columns}
    parts |= {name: _encoded(table[name], name, how) for name, how in categorical.items()}
    ordered = [parts[name] for name in names]
    return Encoded(np.concatenate([part.values for part in ordered], axis=1), sum((part.names for part in ordered), ()))


def words(column: pd.Series[Any]) -> NDArray[np.str_]:
    """Values as text, each in full; empty where there is none. Whole numbers stay whole beside gaps."""
    present = column[column.notna()]
    if column.dtype.kind == "f" and len(present) < len(column) and not np.any(present % 1):
        present = present.astype(np.int64)
    found = np.full(len(column), "", dtype=object)
    found[column.notna().to_numpy()] = [str(value) for value in present]
    return found.astype(np.str_)


def distinct(column: pd.Series[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The values that a column has, sorted, and which of them is in each row."""
    values = column.to_numpy()
    if values.dtype.kind == "O":  # words; or words in one file and numbers in another
        values = words(column)
    return np.unique(values, return_inverse=True)


def _first_word(column: pd.Series[Any]) -> str:
    """The first value that is no number, where others are: it may be a slip."""
    import pandas as pd

    numeric = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(numeric.isna() & column.notna())
    if not wrong.size or numeric.isna().all():
        return ""
    return f": {str(column.iloc[wrong[0]])!r} in {row(int(column.index[wrong[0]]))}"


def _encoded(column: pd.Series[Any], name: str, how: Encoding) -> Encoded:
    levels, codes = distinct(column)
    if how == "ordinal":
        return Encoded(codes[:, np.newaxis].astype(np.float64), (name,))
    first = 1 if how == "dummy" else 0
    return Encoded(np.eye(len(levels))[codes][:, first:], tuple(f"{name}={level}" for level in levels[first:]))
