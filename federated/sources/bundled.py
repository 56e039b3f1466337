"""Data sets that come with scikit-learn, read without importing it: that takes longer than all else in a check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.source import Source


def _bundled(file: str, **reading: Any) -> NDArray[np.float64]:
    """A table that scikit-learn carries."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"data: {file} comes with scikit-learn, which is not installed")
    path = Path(package.submodule_search_locations[0], "datasets", "data", file)
    return np.loadtxt(path, delimiter=",", **reading)


class Digits(Source):
    """1,797 handwritten digits, 8 × 8 grey levels from 0 to 16 (Alpaydin & Kaynak 1998, UCI)."""

    kind: Literal["digits"] = "digits"

    def load(self) -> Dataset:
        table = _bundled("digits.csv.gz")
        images = table[:, :-1].reshape(-1, 8, 8, 1)
        rows = Split(images.astype(np.float32), table[:, -1].astype(np.int32))
        return Dataset(rows, tuple(str(digit) for digit in range(10)), "data.digits")


class BreastCancer(Source):
    """569 patients, 30 measurements of cell nuclei, malignant or benign (Street et al. 1993, UCI)."""

    kind: Literal["breast_cancer"] = "breast_cancer"

    def load(self) -> Dataset:
        table = _bundled("breast_cancer.csv", skiprows=1)
        rows = Split(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int32))
        return Dataset(rows, ("malignant", "benign"), "data.breast_cancer")
