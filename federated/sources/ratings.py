"""Who gave what how many stars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from federated.data import Dataset, Split
from federated.errors import DataError, row
from federated.sources.reading import first_line, require_column, table
from federated.sources.source import Source

if TYPE_CHECKING:
    import pandas as pd

Column = str | int
"""A name, or a position from 0."""

_SHOWN = 60  # characters of a line that a message shows

_EXACT = 2**24
"""Whole numbers up to here are exact in float32."""


class _Ids(NamedTuple):
    """Distinct ids, and which of them is in each row."""

    names: NDArray[np.str_]
    codes: NDArray[np.intp]


class Ratings(Source):
    """Ratings of items by users, each user a client: examples are (user, item), the target a rating.

    Columns are names; or positions from 0, all three of them, where the file has no header. Examples hold numbers for
    ``model: {kind: recommender}``:

    | ``numbers`` | a user's and an item's number | then |
    | --- | --- | --- |
    | ``places`` | its place among all ids, sorted | from 0 without gaps; an id that is new renumbers those behind it |
    | ``ids`` | the id itself, a whole number | stays when rows are added; ``users`` and ``items`` exceed the largest |

    Ids that are whole numbers are sorted as numbers. All clients know all items' ids.
    """

    kind: Literal["ratings"] = "ratings"
    path: Path
    user: Column = "user"
    item: Column = "item"
    rating: Column = "rating"
    separator: str = Field(default=",", min_length=1, description='a tab is "\\t", in double quotes')
    numbers: Literal["places", "ids"] = "places"

    @model_validator(mode="after")
    def _names_or_positions(self) -> Self:
        columns = (self.user, self.item, self.rating)
        if len({type(column) for column in columns}) > 1:
            raise ValueError("user, item and rating are three names, or three positions in a file without a header")
        if any(isinstance(column, int) and column < 0 for column in columns):
            raise ValueError(f"positions begin at 0, got {', '.join(map(str, columns))}")
        if len(set(columns)) < 3:
            raise ValueError(f"user, item and rating are three columns, got {', '.join(map(str, columns))}")
        return self

    def load(self) -> Dataset:
        held = self._table()
        users, items = (self._ids(field, held) for field in ("user", "item"))
        x = np.stack([self._numbers(field, ids) for field, ids in (("user", users), ("item", items))], axis=1)
        return Dataset(Split(x, self._stars(held)), None, f"data.ratings {self.path}", users.names[users.codes])

    def _table(self) -> pd.DataFrame:
        begins = first_line("data.ratings.path", self.path)
        if begins and self.separator not in begins:
            raise DataError(
                f"data.ratings.separator: expected {self.separator!r} between columns, {self.path} begins with "
                f"{begins[:_SHOWN]!r}; set the separator that it has"
            )
        header: Literal["infer"] | None = "infer" if isinstance(self.user, str) else None
        ids = (self.user, self.item)  # which may be NA, or 007
        held = table("data.ratings.path", self.path, self.separator, header, ids)
        for field in ("user", "item", "rating"):
            require_column(f"data.ratings.{field}", self.path, getattr(self, field), held)
        return held

    def _ids(self, field: str, held: pd.DataFrame) -> _Ids:
        given = held[getattr(self, field)].fillna("")  # a line that ends too early
        codes, found = given.factorize()
        names = found.to_numpy(np.str_)
        rows = np.flatnonzero((np.char.strip(names) == "")[codes])
        if rows.size:
            raise DataError(
                f"data.ratings.{field}: {len(rows)} rows of {self.path} have none, the first is {row(rows[0])}"
            )
        return _Ids(names, codes)

    def _numbers(self, field: str, ids: _Ids) -> NDArray[np.float32]:
        names = [str(name) for name in ids.names]
        whole = all(name.isdecimal() for name in names)
        if self.numbers == "places":
            order = sorted(range(len(names)), key=lambda place: _rank(names[place], whole))
            numbers = np.argsort(order)
        elif whole:
            numbers = np.array([min(int(name), _EXACT) for name in names])
        else:
            raise DataError(
                f"data.ratings.numbers: ids are to be the numbers, but {self.path} has {field} "
                f"{next(name for name in names if not name.isdecimal())!r}; use numbers: places"
            )
        if numbers.max() >= _EXACT:
            raise DataError(f"data.ratings.{field}: numbers must lie below {_EXACT:,}, {self.path} has larger ones")
        return numbers[ids.codes].astype(np.float32)

    def _stars(self, held: pd.DataFrame) -> NDArray[np.float32]:
        import pandas as pd

        given = held[self.rating]
        stars = pd.to_numeric(given, errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(np.isnan(stars))
        if wrong.size:
            raise DataError(
                f"data.ratings.rating: expected numbers, {len(wrong)} rows of {self.path} have none, "
                f"the first is {row(wrong[0])} with {str(given.iloc[wrong[0]])!r}, of user "
                f"{str(held[self.user].iloc[wrong[0]])!r}"
            )
        return stars.astype(np.float32)


def _rank(name: str, whole: bool) -> tuple[int, str]:
    return int(name) if whole else 0, name
