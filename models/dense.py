"""Fully connected architectures."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from federated.errors import PlanError
from models.architecture import Model, Shape, output_units

if TYPE_CHECKING:
    import keras


class _Dense(Model):
    """A flat input, fully connected hidden layers, and the output."""

    @property
    def _widths(self) -> tuple[int, ...]:
        return ()

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        hidden = [keras.layers.Dense(width, activation="relu") for width in self._widths]
        output = keras.layers.Dense(output_units(classes), name="output")
        return keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *hidden, output])

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        widths = (math.prod(inputs), *self._widths, output_units(classes))
        return sum((before + 1) * after for before, after in pairwise(widths))


class Linear(_Dense):
    """Linear regression: one output, squared error."""

    kind: Literal["linear"] = "linear"

    def check(self, inputs: Shape, classes: int | None) -> None:
        if classes is not None:
            raise PlanError("model.linear: the target has classes; use logistic or mlp")


class Logistic(_Dense):
    """Logistic regression, multinomial above two classes, cross-entropy."""

    kind: Literal["logistic"] = "logistic"

    def check(self, inputs: Shape, classes: int | None) -> None:
        if classes is None:
            raise PlanError("model.logistic: the target has no classes; use linear or mlp")


class Mlp(_Dense):
    """A multi-layer perceptron with ReLU; ``hidden: [200, 200]`` is the FedAvg paper's 2NN."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)

    @property
    def _widths(self) -> tuple[int, ...]:
        return self.hidden
