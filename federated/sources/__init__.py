"""Where the rows come from. Libraries that read files are imported when a source is read, not before."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.sources.arrays import Npz
from federated.sources.bundled import BreastCancer, Diabetes, Digits, Iris, Linnerud, Wine
from federated.sources.custom import CustomSource
from federated.sources.idx import Idx
from federated.sources.images import Images
from federated.sources.ratings import Ratings
from federated.sources.source import Source
from federated.sources.synthetic import Line
from federated.sources.tables import Csv, Parquet
from federated.sources.text import Text
from federated.sources.windows import Windows

__all__ = [
    "AnySource",
    "BreastCancer",
    "Csv",
    "CustomSource",
    "Diabetes",
    "Digits",
    "Idx",
    "Images",
    "Iris",
    "Line",
    "Linnerud",
    "Npz",
    "Parquet",
    "Ratings",
    "Source",
    "Text",
    "Windows",
    "Wine",
]

AnySource = Annotated[
    Digits
    | BreastCancer
    | Iris
    | Wine
    | Diabetes
    | Linnerud
    | Line
    | Csv
    | Parquet
    | Npz
    | Idx
    | Images
    | Windows
    | Ratings
    | Text
    | CustomSource,
    Field(discriminator="kind"),
    ByKind(),
]
