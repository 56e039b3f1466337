"""Forecasting from tables of time series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.data import Dataset
from federated.errors import DataError, row
from federated.sources.columns import Columns
from federated.sources.reading import require_column, table
from federated.sources.series import Series, Window, cut, whole
from federated.sources.sliding import Starts
from federated.sources.source import Source
from federated.sources.table_files import TableFile, table_files

if TYPE_CHECKING:
    import pandas as pd


class Windows(Source):
    """Windows over time series: ``past`` steps of the inputs, and the target ``horizon`` steps after the last of them.

    Examples are (past, features), the target one number: a regression. The lines of a table are in the order of time.

    | ``client`` | whose series | inputs | target |
    | --- | --- | --- | --- |
    | ``column`` | each column of one table is a client's | the column's own past | the same column |
    | ``file`` | each file is a client's, called like it | ``columns`` | the column ``target`` |

    ``columns: null`` is all of them, but ``time``. Where ``time`` names a column of numbers, or of dates that ISO 8601
    knows, windows do not cross the places where it moves on by another step than it usually does (the median).

    A file's client may also stand in ``path``, as ``{client}``.

    *Guarantees:* windows overlap, so that dealing them out by chance would train on what is tested. The last
    ``test_share`` of each client's time is reserved for testing, and windows across the cut are left out: no number is
    both trained and tested on. A plan keeps to it with ``holdout: {test: given, client_test: given, validation: 0}``.

    | where | then |
    | --- | --- |
    | a value is missing | refused with a count; or with ``missing: skip`` windows over it are left out |
    | a client has no window to train or to test on | refused, by its name |
    """

    kind: Literal["windows"] = "windows"
    path: Path | tuple[Path, ...] = Field(
        description="a table, several, or a pattern: data/*.csv.gz, data/{client}.csv"
    )
    past: int = Field(ge=1, description="steps that are seen")
    horizon: int = Field(default=1, ge=1, description="steps from the last seen one to the target")
    step: int = Field(default=1, ge=1, description="steps from one window to the next")
    client: Literal["column", "file"] = "column"
    columns: Columns | None = Field(default=None, min_length=1)
    target: str | None = Field(default=None, description="column that is forecast; with client: file")
    time: str | None = Field(default=None, description="column of times, which rise; null: lines are one step apart")
    missing: Literal["refuse", "skip"] = "refuse"
    test_share: float = Field(default=0.2, ge=0, lt=1)
    separator: str = Field(default=",", min_length=1)

    @model_validator(mode="after")
    def _knows_what_to_forecast(self) -> Self:
        if self.client == "column" and self.target is not None:
            raise ValueError("with client: column each column is its own target; leave target out, or use client: file")
        if self.client == "file" and self.target is None:
            raise ValueError("with client: file the column to forecast is needed; name it in target")
        return self

    def load(self) -> Dataset:
        found = table_files("data.windows.path", self.path if isinstance(self.path, tuple) else (self.path,))
        self._check_names(found)
        series = [one for file in found for one in self._series(file)]
        window = Window(self.past, self.horizon, self.step)
        begins = [whole(one, window, self.test_share) for one in series]
        self._check_missing(series, window, sum(map(_count, begins)))
        for one, first in zip(series, begins, strict=True):
            self._check_windows(one, first)
        rows = cut(series, [np.concatenate(first) for first in begins], window)
        keys = np.repeat([one.client for one in series], [_count(first) for first in begins])
        tests = np.concatenate([np.repeat([False, True], [len(part) for part in first]) for first in begins])
        origin = f"data.windows {found[0].path}" + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        return Dataset(rows, None, origin, keys, tests if self.test_share else None)

    def _check_names(self, found: list[TableFile]) -> None:
        if self.client == "column" and len(found) > 1:
            raise DataError(f"data.windows.path: client: column takes one table, got {len(found)}; use client: file")
        names = [_name(file) for file in found]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f"data.windows.path: two files are client {twice[0]!r}; rename one")

    def _series(self, file: TableFile) -> Iterator[Series]:
        path, held = file.path, table("data.windows.path", file.path, self.separator)
        jumps = self._jumps(path, held)
        names = self._names(path, held)
        inputs = self._numbers("columns", path, held[names])
        if self.target is None:
            for column, name in zip(inputs.T, names, strict=True):
                yield Series(name, column[:, None], column, jumps)
        else:
            require_column("data.windows.target", path, self.target, held)
            target = self._numbers("target", path, held[[self.target]])
            yield Series(_name(file), inputs, target[:, 0], jumps)

    def _names(self, path: Path, held: pd.DataFrame) -> list[str]:
        names = list(self.columns) if self.columns else [str(name) for name in held.columns if name != self.time]
        for name in names:
            require_column("data.windows.columns", path, name, held)
        return names

    def _numbers(self, field: str, path: Path, held: pd.DataFrame) -> NDArray[np.float32]:
        words = [str(name) for name in held.columns if held[name].dtype.kind not in "iufb"]
        if words:
            raise DataError(
                f"data.windows.{field}: expected numbers, {path} has text in {', '.join(words)}; "
                "name the columns that are numbers"
            )
        with np.errstate(over="ignore"):  # too large becomes infinite, which the dataset refuses
            return held.to_numpy(np.float64).astype(np.float32)

    def _jumps(self, path: Path, held: pd.DataFrame) -> NDArray[np.bool_]:
        if self.time is None:
            return np.zeros(len(held), np.bool_)
        require_column("data.windows.time", path, self.time, held)
        steps = np.diff(self._times(path, held[self.time]))
        if np.any(steps <= 0):
            raise DataError(
                f"data.windows.time: {self.time!r} must rise from line to line, "
                f"in {path} it does not after {row(int(np.argmax(steps <= 0)))}; sort the table"
            )
        usual = np.median(steps) if len(steps) else 1.0
        return np.concatenate([[False], np.abs(steps - usual) > 1e-6 * usual])

    def _times(self, path: Path, column: pd.Series[Any]) -> NDArray[np.float64]:
        import pandas as pd

        if column.isna().any():
            raise DataError(f"data.windows.time: {path} has rows without a value in {self.time!r}")
        if column.dtype.kind in "iuf":
            return column.to_numpy(np.float64)
        dates = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
        if dates.isna().any():
            neither = dates.isna() & pd.to_numeric(column, errors="coerce").isna()
            wrong = int(np.argmax(neither if neither.any() else dates.isna()))
            raise DataError(
                f"data.windows.time: expected numbers or dates such as 2024-05-31 or 2024-05-31 23:00, "
                f"{path} has {column.iloc[wrong]!r} in {self.time!r}, {row(wrong)}"
            )
        return np.asarray(dates.astype("int64"), np.float64)

    def _check_missing(self, series: list[Series], window: Window, kept: int) -> None:
        if self.missing == "skip":
            return
        holed = [one for one in series if np.isnan(one.inputs).any() or np.isnan(one.target).any()]
        if holed:
            raise DataError(
                f"data.windows.missing: {len(holed)} of {len(series)} clients miss values, the first is "
                f"{holed[0].client!r}; fill them, or set missing: skip, which leaves {kept} windows"
            )

    def _check_windows(self, one: Series, first: Starts) -> None:
        for use, found in zip(("train", "test"), first, strict=True):
            if len(found) == 0 and (use == "train" or self.test_share):
                raise DataError(
                    f"data.windows: client {one.client!r} has no window to {use} on in {len(one.target)} steps, of "
                    f"which each takes {self.past + self.horizon}; lower past or horizon, change test_share, "
                    "or leave the client out"
                )


def _count(first: Starts) -> int:
    return len(first.train) + len(first.test)


def _name(file: TableFile) -> str:
    """Whose file it is: as its path says, or by its name without its endings, as in ``station.csv.gz``."""
    name = file.path.name
    return file.client or name.removesuffix(".gz").rpartition(".")[0] or name
