"""What a table of your own is, and how it becomes numbers. pandas is imported when one is read, not before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.component import ByKind
from federated.data import Blanks, Dataset, Split
from federated.errors import DataError
from federated.sources.apart import Apart
from federated.sources.columns import Columns, Encoding, distinct, encode, numbers, require, words
from federated.sources.source import Source
from federated.sources.table_files import CLIENT, TableFile, table_files
from federated.words import NUMBER, WORD, WORD_OR_NUMBER

if TYPE_CHECKING:
    import pandas as pd

_NAMED = 5  # clients that a message names

_Word = Annotated[Literal["refuse", "drop", "mean", "median"], WORD]
_Number = Annotated[float, NUMBER]


class Table(Source, ABC):
    """Your own table: one row an example, numbers in the feature columns.

    ``path`` is a file, several, or a pattern: ``*`` is any text in a name, ``{client}`` the name of the client whose
    rows the file holds. Where a column says whose a row is, ``client`` names it. A ``${NAME}`` in a path is the
    environment's.

    ``features: null`` takes every column but the target, the client column and those to ``drop``. Columns that are
    ``categorical`` hold words or codes: ``one_hot`` is a column of 0 and 1 a level, ``dummy`` the same without the
    first level, ``ordinal`` the level's place from 0. Levels are those of all rows that are used, sorted: clients tell
    each other which they have, not how many. The served model takes features so encoded. A new level changes every
    row, so that all are dealt anew.

    Classes are the distinct values of the target, sorted; with ``target_above`` they are two: at most that number, and
    above it.

    | ``missing`` | a row without a value |
    | --- | --- |
    | ``refuse`` | is refused, with its columns and clients |
    | ``drop`` | is left out; a client without a row left is refused |
    | ``mean``, ``median`` | gets that of all clients' training rows in the column |
    | a number | gets the number |

    Only numbers among the features are filled; what a row is for does not depend on what fills it. The served model
    takes rows without gaps.
    """

    kind: str
    path: Path | tuple[Path, ...] = Field(description="a file, several, or a pattern such as data/{client}.csv")
    target: str
    target_above: float | None = Field(default=None, description="makes two classes: up to this number, and above")
    task: Literal["classification", "regression"] = "classification"
    features: Columns | None = Field(default=None, min_length=1)
    drop: Columns = Field(default=(), description="columns that are no features")
    categorical: dict[str, Encoding] = Field(default_factory=dict, description="how words and codes become numbers")
    client: str | None = Field(default=None, description="column that says whose row it is")
    missing: Annotated[_Word | _Number, WORD_OR_NUMBER, ByKind()] = "refuse"
    split: Apart | None = Field(default=None, description="rows that clients set apart for testing")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        by_file = [CLIENT in str(path) for path in self._paths]
        if not by_file:
            raise ValueError("path names no file")
        if any(by_file) and (self.client is not None or not all(by_file)):
            raise ValueError(
                "whose a row is, is said by {client} in every path, or by a column called client, not by both"
            )
        if self.client == self.target:
            raise ValueError(f"client and target are both {self.target!r}; whose a row is, is nothing to predict")
        if self.task == "regression":
            self._check_without_classes()
        return self

    def _check_without_classes(self) -> None:
        if self.target_above is not None:
            raise ValueError("target_above makes classes; leave task: classification, or leave it out")
        if self.split is not None and self.split.stratify == "always":
            raise ValueError("split.stratify: always goes by classes, and a regression has none; use never")

    def load(self) -> Dataset:
        table, keys = self._joined()
        names = self._feature_names(table)
        used = self._usable(table, names, keys)
        table, keys = table[used], None if keys is None else keys[used]
        values, called = encode(f"{self._field}.features", table, names, self.categorical)
        targets, labels = self._targets(table)
        rows = Split(self._features(values), targets)
        blanks = Blanks(np.isnan(values), self.missing) if self.missing in ("mean", "median") else None
        reserved = None if self.split is None else self._reserved(self.split, rows, labels, keys)
        return Dataset(rows, labels, f"{self._field} {self._where}", keys, reserved, blanks, features=called)

    @abstractmethod
    def _read(self, path: Path) -> pd.DataFrame:
        """The table in one file.

        Raises:
            DataError: there is none.
        """

    @property
    def _paths(self) -> tuple[Path, ...]:
        return (self.path,) if isinstance(self.path, Path) else self.path

    @property
    def _field(self) -> str:
        return f"data.{self.kind}"

    @property
    def _where(self) -> str:
        return ", ".join(map(str, self._paths))

    def _joined(self) -> tuple[pd.DataFrame, NDArray[np.str_] | None]:
        """All files' rows, one file after the other, and whose they are."""
        import pandas as pd

        found = table_files(f"{self._field}.path", self._paths)
        parts = [self._read(file.path) for file in found]
        for file, part in zip(found, parts, strict=True):
            self._check_alike(file, part, parts[0])
        table = pd.concat([part[list(parts[0].columns)] for part in parts], ignore_index=True)
        table.columns = table.columns.astype(str)
        if self.client is not None:
            require(f"{self._field}.client", self._where, self.client, table.columns)
            return table, words(table[self.client])
        clients = [file.client for file in found if file.client is not None]
        return table, np.repeat(clients, list(map(len, parts))) if clients else None

    def _check_alike(self, file: TableFile, part: pd.DataFrame, first: pd.DataFrame) -> None:
        for name in first.columns:
            require(f"{self._field}.path", str(file.path), str(name), part.columns)
        more = sorted(set(part.columns) - set(first.columns))
        if more:
            raise DataError(f"{self._field}.path: {file.path} has a column {more[0]!r} that other files have not")

    def _feature_names(self, table: pd.DataFrame) -> list[str]:
        """The features' columns, when all columns that the plan names are there."""
        apart = {"target": (self.target,), "drop": self.drop, "categorical": tuple(self.categorical)}
        for field, columns in {**apart, "features": self.features or ()}.items():
            for column in columns:
                require(f"{self._field}.{field}", self._where, column, table.columns)
        others = {self.target, self.client, *self.drop}
        names = [str(name) for name in table.columns if name not in others] if self.features is None else self.features
        self._check_apart("features", names, others)
        self._check_apart("categorical", self.categorical, others)
        for name in sorted(self.categorical.keys() - set(names)):
            raise DataError(f"{self._field}.categorical: {name!r} is not among the features; add it or leave it out")
        if not names:
            raise DataError(f"{self._field}.features: {self._where} has no column beside the target and the client")
        return list(names)

    def _check_apart(self, field: str, columns: Iterable[str], others: Set[str | None]) -> None:
        for name in columns:
            if name in others:
                raise DataError(
                    f"{self._field}.{field}: {name!r} is the target, the client or dropped; leave it out of {field}"
                )

    def _usable(self, table: pd.DataFrame, names: list[str], keys: NDArray[np.str_] | None) -> NDArray[np.bool_]:
        """Which rows stay: those that lack nothing, but for what will be filled in."""
        filled = [] if self.missing in ("refuse", "drop") else [name for name in names if name not in self.categorical]
        asked = [name for name in (*names, self.target) if name not in filled]
        lacking = table[asked].isna()
        if self.client is not None:
            lacking[self.client] = table[self.client].isna() | (table[self.client] == "")
        rows = lacking.any(axis=1).to_numpy(np.bool_)
        if self.missing == "drop":
            self._check_somebody_left(rows, keys)
        elif rows.any():
            columns = [str(name) for name in lacking.columns[lacking.any()]]
            raise DataError(
                f"{self._field}.path: {int(rows.sum())} rows of {self._where} have no value in {', '.join(columns)}"
                f"{'' if keys is None else _named(keys[rows])}; fill or drop them ({self._field}.missing"
                f"{': only numbers among the features are filled' if filled else ''})"
            )
        return ~rows

    def _check_somebody_left(self, dropped: NDArray[np.bool_], keys: NDArray[np.str_] | None) -> None:
        whole = f"{self._field}.missing: drop leaves no row"
        if dropped.all():
            raise DataError(f"{whole} of {self._where}; drop columns that lack most values instead")
        gone = [] if keys is None else sorted(set(keys) - set(keys[~dropped]) - {""})
        if gone:
            raise DataError(f"{whole} of client {str(gone[0])!r}; drop columns that lack most values, or leave it out")

    def _features(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """With what fills gaps; 0 where that is not known yet."""
        filler = 0.0 if isinstance(self.missing, str) else self.missing
        with np.errstate(over="ignore"):  # too large becomes infinite, which the dataset refuses
            return np.where(np.isnan(values), filler, values).astype(np.float32)

    def _targets(self, table: pd.DataFrame) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        column = table[self.target]
        if self.task == "regression" or self.target_above is not None:
            values = numbers(f"{self._field}.target", column.to_frame())[:, 0]
            return (_as_float32(values), None) if self.target_above is None else self._halves(values, self.target_above)
        if column.dtype.kind == "f" and np.any(column % 1):
            raise DataError(f"{self._field}.target: {self.target!r} holds fractions, not classes; use task: regression")
        labels, codes = distinct(column)
        return codes.astype(np.int32), tuple(str(label) for label in labels)

    def _halves(self, values: NDArray[np.float64], bound: float) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        above = values > bound
        if above.all() or not above.any():
            raise DataError(
                f"{self._field}.target_above: {'every' if above.all() else 'no'} {self.target} is above {bound:g}, "
                "and a classifier needs both; choose a number between them"
            )
        return above.astype(np.int32), (f"at most {bound:g}", f"above {bound:g}")

    def _reserved(
        self, split: Apart, rows: Split, labels: tuple[str, ...] | None, keys: NDArray[np.str_] | None
    ) -> NDArray[np.bool_]:
        everybody = np.full(len(rows), "") if keys is None else keys
        return split.reserve(f"{self._field}.split", None if labels is None else rows.y, len(labels or ()), everybody)


def _as_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _named(clients: NDArray[np.str_]) -> str:
    names = sorted({str(name) for name in clients} - {""})
    if not names:
        return ""
    more = " …" if len(names) > _NAMED else ""
    return f", of client {', '.join(map(repr, names[:_NAMED]))}{more}"
