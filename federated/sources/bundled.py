"""Data sets that come with scikit-learn, read without importing it: that takes longer than all else in a check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.sources.source import Source


def _bundled(file: str, delimiter: str = ",", skiprows: int = 0) -> NDArray[np.float64]:
    """A table that scikit-learn carries."""
    package = find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"data: {file} comes with scikit-learn, which is not installed")
    path = Path(package.submodule_search_locations[0], "datasets", "data", file)
    return np.loadtxt(path, delimiter=delimiter, skiprows=skiprows)


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


class Iris(Source):
    """150 irises of three species, 4 measurements in cm (Fisher 1936, UCI)."""

    kind: Literal["iris"] = "iris"

    def load(self) -> Dataset:
        table = _bundled("iris.csv", skiprows=1)
        rows = Split(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int32))
        return Dataset(rows, ("setosa", "versicolor", "virginica"), "data.iris")


class Wine(Source):
    """178 wines of three cultivars, 13 chemical measurements (Aeberhard & Forina 1991, UCI)."""

    kind: Literal["wine"] = "wine"

    def load(self) -> Dataset:
        table = _bundled("wine_data.csv", skiprows=1)
        rows = Split(table[:, :-1].astype(np.float32), table[:, -1].astype(np.int32))
        return Dataset(rows, ("class_0", "class_1", "class_2"), "data.wine")


class Diabetes(Source):
    """442 patients, 10 measurements as they were taken, and how far the disease went in a year (Efron et al. 2004)."""

    kind: Literal["diabetes"] = "diabetes"

    def load(self) -> Dataset:
        measured = _bundled("diabetes_data_raw.csv.gz", delimiter=" ")
        course = _bundled("diabetes_target.csv.gz")
        return Dataset(Split(measured.astype(np.float32), course.astype(np.float32)), None, "data.diabetes")


class Linnerud(Source):
    """20 men, their chin-ups, sit-ups and jumps, and their weight (lb), waist (in) or pulse (Tenenhaus 1998)."""

    kind: Literal["linnerud"] = "linnerud"
    target: Literal["weight", "waist", "pulse"] = "weight"

    def load(self) -> Dataset:
        exercises = _bundled("linnerud_exercise.csv", delimiter=" ", skiprows=1)
        body = _bundled("linnerud_physiological.csv", delimiter=" ", skiprows=1)
        measured = body[:, ("weight", "waist", "pulse").index(self.target)]
        return Dataset(Split(exercises.astype(np.float32), measured.astype(np.float32)), None, "data.linnerud")
