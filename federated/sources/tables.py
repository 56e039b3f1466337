"""Your own tables, by what their files are. pandas is imported when one is read, not before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from federated.sources.reading import read
from federated.sources.table import Table

if TYPE_CHECKING:
    import pandas as pd


class Csv(Table):
    """A table as text, ``.gz`` or not, with a header line; or with ``columns`` that name what it lacks.

    ``marks`` are texts that mean no value, beside the empty cell, NA, NaN and their like.
    """

    kind: Literal["csv"] = "csv"
    columns: tuple[str, ...] | None = Field(default=None, min_length=1, description="of a file without a header line")
    separator: str = Field(default=",", min_length=1, max_length=1, description='a tab is "\\t", in double quotes')
    marks: tuple[str, ...] = Field(default=(), description='texts that mean no value, such as "?"')

    def _read(self, path: Path) -> pd.DataFrame:
        import pandas as pd

        names = None if self.columns is None else list(self.columns)
        # A site may be called NA.
        as_text = {} if self.client is None else {self.client: str}
        return read(
            f"{self._field}.path",
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


class Parquet(Table):
    """A table in Parquet's format."""

    kind: Literal["parquet"] = "parquet"

    def _read(self, path: Path) -> pd.DataFrame:
        import pandas as pd

        return read(f"{self._field}.path", path, "Parquet table", pd.read_parquet)
