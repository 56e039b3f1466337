"""Who likes what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.errors import PlanError
from models.architecture import Model, Shape, require_ids, require_shape

if TYPE_CHECKING:
    import keras


class Recommender(Model):
    """Matrix factorisation with biases (Koren et al. 2009): the product of a user's and an item's embedding.

    Examples are (user, item), two whole numbers below ``users`` and ``items``; the target is a rating, or one of two
    classes.
    """

    kind: Literal["recommender"] = "recommender"
    users: int = Field(ge=1)
    items: int = Field(ge=1)
    dimensions: int = Field(default=16, ge=1)

    def check(self, inputs: Shape, classes: int | None) -> None:
        require_shape("recommender", inputs, "(2,), a user and an item", inputs == (2,))
        if classes is not None and classes > 2:
            raise PlanError(f"model.recommender: the target must be a rating or one of 2 classes, it has {classes}")

    def check_rows(self, x: NDArray[np.float32], whose: str) -> None:
        require_ids(self.kind, "users", x[:, 0], self.users, whose)
        require_ids(self.kind, "items", x[:, 1], self.items, whose)

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        pair = keras.Input(inputs)
        sides = [(pair[:, 0], self.users), (pair[:, 1], self.items)]
        embedded = [keras.layers.Embedding(count, self.dimensions)(number) for number, count in sides]
        biases = [keras.layers.Embedding(count, 1, "zeros")(number) for number, count in sides]
        liked = keras.layers.Add()([keras.layers.Dot(1)(embedded), *biases])
        return keras.Model(pair, keras.layers.Dense(1, kernel_initializer="ones", name="output")(liked))

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        return (self.users + self.items) * (self.dimensions + 1) + 2
