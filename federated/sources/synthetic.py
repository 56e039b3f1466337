"""Rows that are drawn, not read."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from federated.data import Dataset, Split
from federated.randomness import generator
from federated.sources.source import Source


class Line(Source):
    """The textbook's regression: each client has ``points`` of y = ``slope`` x + ``intercept`` + N(0, ``noise``²).

    x is uniform on [-2, 2].
    """

    kind: Literal["line"] = "line"
    clients: int = Field(default=5, ge=1)
    points: int = Field(default=100, ge=3)
    slope: float = 2.0
    intercept: float = 1.0
    noise: float = Field(default=1.0, ge=0)
    seed: int = Field(default=0, ge=0)

    def load(self) -> Dataset:
        rng = generator(self.seed, 0, "line")
        count = self.clients * self.points
        x = rng.uniform(-2, 2, size=(count, 1)).astype(np.float32)
        y = self.slope * x[:, 0] + self.intercept + rng.normal(0, self.noise, size=count)
        width = len(str(self.clients - 1))
        keys = np.repeat([f"client-{number:0{width}}" for number in range(self.clients)], self.points)
        return Dataset(Split(x, y.astype(np.float32)), None, "data.line", keys)
