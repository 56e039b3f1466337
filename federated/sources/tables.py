"""Your own tables. pandas is imported when one is read, not before."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.source import Source

if TYPE_CHECKING:
    import pandas as pd


class Csv(Source):
    """Your own table: one row an example, a header line, numbers in the feature columns.

    ``features: null`` takes every column but the target and the client column. Classes are the distinct values of
    the target, sorted.
    """

    kind: Literal["csv"] = "csv"
    path: Path
    target: str
    task: Literal["classification", "regression"] = "classification"
    features: tuple[str, ...] | None = Field(default=None, min_length=1)
    client: str | None = Field(default=None, description="column that says whose row it is")

    @field_validator("features")
    @classmethod
    def _each_once(cls, features: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if features is not None and len(set(features)) < len(features):
            raise ValueError(f"each feature may be named once, got {list(features)}")
        return features

    def load(self) -> Dataset:
        table = self._read()
        for field, column in (("target", self.target), ("client", self.client)):
            if column is not None:
                self._check(f"data.csv.{field}", column, table)
        names = self._feature_names(table)
        self._check_complete(table[[*names, self.target, *([self.client] if self.client else [])]])
        features = self._numbers("data.csv.features", table[names])
        keys = None if self.client is None else table[self.client].astype(str).to_numpy(np.str_)
        targets, labels = self._targets(table)
        return Dataset(Split(features, targets), labels, f"data.csv {self.path}", keys)

    def _read(self) -> pd.DataFrame:
        import pandas as pd

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
                as_text = {} if self.client is None else {self.client: str}  # a site may be called NA
                table = pd.read_csv(self.path.expanduser(), index_col=False, converters=as_text)
        except FileNotFoundError as error:
            raise DataError(
                f"data.csv.path: there is no file {self.path}; "
                f"name your own table, for example --set data.path=table.csv"
            ) from error
        except OSError as error:
            raise DataError(f"data.csv.path: cannot read {self.path} ({error.strerror})") from error
        except (ValueError, pd.errors.ParserWarning) as error:  # parsing errors are ValueErrors
            reason = str(error).strip().rstrip(".")
            raise DataError(f"data.csv.path: {self.path} is no CSV table ({reason})") from error
        if table.empty:
            raise DataError(f"data.csv.path: {self.path} has a header but no rows")
        return table

    def _feature_names(self, table: pd.DataFrame) -> list[str]:
        others = (self.target, self.client)
        if self.features is None:
            names = [str(name) for name in table.columns if name not in others]
        else:
            names = list(self.features)
        for name in names:
            self._check("data.csv.features", name, table)
            if name in others:
                raise DataError(f"data.csv.features: {name!r} is the target or the client; leave it out of features")
        if not names:
            raise DataError(f"data.csv.features: {self.path} has no column beside the target and the client")
        return names

    def _check_complete(self, table: pd.DataFrame) -> None:
        missing = table.isna()
        if missing.to_numpy().any():
            columns = [str(name) for name in table.columns[missing.any()]]
            raise DataError(
                f"data.csv.path: {int(missing.any(axis=1).sum())} rows of {self.path} have no value in "
                f"{', '.join(columns)}; fill or drop them"
            )

    def _check(self, field: str, column: str, table: pd.DataFrame) -> None:
        columns = [str(name) for name in table.columns]
        if column not in columns:
            close = get_close_matches(column, columns)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(columns)}"
            raise DataError(f"{field}: {self.path} has no column {column!r}; {hint}")

    def _numbers(self, field: str, table: pd.DataFrame) -> NDArray[np.float32]:
        words = [str(name) for name in table.columns if table[name].dtype.kind not in "iufb"]
        if words:
            raise DataError(
                f"{field}: expected numbers, got text in {', '.join(words)}; "
                "encode them as numbers or leave them out of features"
            )
        with np.errstate(over="ignore"):  # too large becomes infinite, which the dataset refuses
            return table.to_numpy(np.float64).astype(np.float32)

    def _targets(self, table: pd.DataFrame) -> tuple[NDArray[Any], tuple[str, ...] | None]:
        column = table[self.target]
        if self.task == "regression":
            return self._numbers("data.csv.target", column.to_frame())[:, 0], None
        if column.dtype.kind == "f" and np.any(column % 1):
            raise DataError(f"data.csv.target: {self.target!r} holds fractions, not classes; use task: regression")
        labels, codes = np.unique(column.to_numpy(), return_inverse=True)
        return codes.astype(np.int32), tuple(str(label) for label in labels)
