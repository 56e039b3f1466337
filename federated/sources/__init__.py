"""Where the rows come from. Libraries that read files are imported when a source is read, not before."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.sources.bundled import BreastCancer, Digits
from federated.sources.custom import CustomSource
from federated.sources.source import Source
from federated.sources.synthetic import Line
from federated.sources.tables import Csv, Parquet

__all__ = ["AnySource", "BreastCancer", "Csv", "CustomSource", "Digits", "Line", "Parquet", "Source"]

AnySource = Annotated[
    Digits | BreastCancer | Line | Csv | Parquet | CustomSource, Field(discriminator="kind"), ByKind()
]
