"""What users bring under ``kind: custom``, right and wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from federated.component import Step, Vector
from federated.data import Dataset
from federated.rules import Rule
from federated.updates import Update
from tests.fakes import small_dataset

NOT_CALLABLE = 3


class Median(Rule):
    """The coordinates' medians, ``factor`` times; its state counts rounds from ``size``."""

    factor: float = 1.0

    def init(self, size: int) -> int:
        return size

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        matrix = [update.delta for update in updates]
        if not matrix:
            raise ValueError("median needs at least 1 update, got 0")
        return Step(state + 1, np.float32(self.factor) * np.median(matrix, axis=0), {"rows": 1.0})


def load_rows(rows: int = 120) -> Dataset:
    """A loader as the plan wants it."""
    return small_dataset(rows)


def load_numbers() -> list[int]:
    """A loader that returns the wrong thing."""
    return [1, 2, 3]
