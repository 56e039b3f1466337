"""One of every architecture, small, with data that it takes. A new member is a line here."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from federated.data import Split
from models.architecture import Model, Shape
from models.specs import Cnn, Gru, Linear, Logistic, Lstm, Mlp, Recommender, ResNet


class Member(NamedTuple):
    """An architecture, the shape of its examples, its classes, and below what number its inputs are whole numbers."""

    spec: Model
    inputs: Shape
    classes: int | None
    tokens: int | None = None

    def rows(self, count: int, seed: int = 0) -> Split:
        """Examples of random content."""
        rng = np.random.default_rng(seed)
        shape = (count, *self.inputs)
        x = rng.normal(size=shape) if self.tokens is None else rng.integers(0, self.tokens, shape)
        y = rng.normal(size=count) if self.classes is None else rng.integers(0, self.classes, count)
        return Split(x.astype(np.float32), y.astype(np.float32 if self.classes is None else np.int32))


MEMBERS = {
    "linear": Member(Linear(), (5,), None),
    "logistic": Member(Logistic(), (5,), 3),
    "mlp": Member(Mlp(hidden=(6, 3)), (2, 3), 2),
    "cnn": Member(Cnn(filters=(3, 4), hidden=5), (9, 6, 2), 3),
    "resnet": Member(ResNet(widths=(4, 8), blocks=2, groups=2), (7, 6, 1), 3),
    "lstm": Member(Lstm(units=4), (6, 2), None),
    "lstm, numbers": Member(Lstm(units=4), (6,), 2),
    "lstm, tokens": Member(Lstm(units=4, vocabulary=7, embedding=3), (6,), 7, tokens=7),
    "gru": Member(Gru(units=4), (6, 2), None),
    "gru, tokens": Member(Gru(units=4, vocabulary=7, embedding=3), (6,), 7, tokens=7),
    "recommender": Member(Recommender(users=5, items=6, dimensions=3), (2,), None, tokens=5),
    "recommender, two classes": Member(Recommender(users=5, items=6, dimensions=3), (2,), 2, tokens=5),
}
