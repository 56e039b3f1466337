"""Your own tables, by what their files are. pandas is imported when one is read, not before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from federated.sources.columns import Columns
from federated.sources.reading import check_header, read
from federated.sources.table import Table

if TYPE_CHECKING:
    import pandas as pd


class Csv(Table):
    """A table as text, ``.gz`` or not, with a header line; or with ``columns`` that name what it lacks.

    ``marks`` are texts that mean no value, beside the empty cell, NA, NaN and their like.
    """

    kind: Literal["csv"] = "csv"
    columns: Columns | None = Field(default=None, min_length=1, description="of a file without a header line")
    separator: str = Field(default=",", min_length=1, max_length=1, description='a tab is "\\t", in double quotes')
    marks: tuple[str, ...] = Field(default=(), description='texts that mean no value, such as "?"')

    def _read(self, path: Path) -> pd.DataFrame:
        import pandas as pd

        names = None if self.columns is None else list(self.columns)
        # A site may be called NA: what begins with a mark of our own is no word for a missing value.
        as_text = {} if self.client is None else {self.client: "={}".format}
        field = f"{self._field}.path"
        table = read(
            field,
            path,
            "CSV table",
            lambda path: pd.read_csv(
                path,
                sep=self.separator,
                names=names,
                index_col=False,
                converters=as_text,
                na_values=list(self.marks),
            ),
        )
        if names is None:
            check_header(field, path, path, sep=self.separator)
        if self.client in table:
            table[self.client] = table[self.client].str[1:].replace(list(self.marks), "")
        return table


class Parquet(Table):
    """A table in Parquet's format."""

    kind: Literal["parquet"] = "parquet"

    def _read(self, path: Path) -> pd.DataFrame:
        import pandas as pd

        return read(f"{self._field}.path", path, "Parquet table", pd.read_parquet)
