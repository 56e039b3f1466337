"""Architectures that a plan can name. Keras is imported when one is built, not before."""

from __future__ import annotations

import math
import random
import threading
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from federated.component import ByKind, Component
from federated.errors import PlanError
from federated.targets import Target, build

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]

_BUILDING = threading.Lock()


def output_units(classes: int | None) -> int:
    """Width of the output: one logit for two classes, one a class for more, one value for regression."""
    return classes if classes is not None and classes > 2 else 1


class Model(Component, ABC):
    """An architecture. Its output is linear: logits, or the regressed value."""

    def check(self, classes: int | None) -> None:
        """Whether the model fits the kind of target.

        Raises:
            PlanError: it does not.
        """

    @abstractmethod
    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        """A new Keras model for examples of shape ``inputs``; ``classes`` is None for regression."""

    @abstractmethod
    def parameters(self, inputs: Shape, classes: int | None) -> int:
        """How many numbers the model has, trainable or moving."""


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

    def check(self, classes: int | None) -> None:
        if classes is not None:
            raise PlanError("model.linear: the target has classes; use logistic or mlp")


class Logistic(_Dense):
    """Logistic regression, multinomial above two classes, cross-entropy."""

    kind: Literal["logistic"] = "logistic"

    def check(self, classes: int | None) -> None:
        if classes is None:
            raise PlanError("model.logistic: the target has no classes; use linear or mlp")


class Mlp(_Dense):
    """A multi-layer perceptron with ReLU; ``hidden: [200, 200]`` is the FedAvg paper's 2NN."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64,)

    @property
    def _widths(self) -> tuple[int, ...]:
        return self.hidden


class CustomModel(Model):
    """Your own model: ``target`` names ``build(inputs, classes, **options) -> keras.Model``.

    The output layer must be linear: one logit for two classes, one a class for more, one value for regression. Draw
    initial weights through Keras' initializers: their seeds follow from the plan's.
    """

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        model = build(self.target, keras.Model, self.options, inputs, classes)
        expected, shape = (None, output_units(classes)), getattr(model, "output_shape", "no fixed shape")
        if shape != expected:
            raise PlanError(f"model.custom.target: {self.target} must end in shape {expected}, got {shape}")
        ending = _last_activation(model)
        if ending in ("sigmoid", "softmax"):
            raise PlanError(
                f"model.custom.target: {self.target} ends in {ending}; end in a linear layer, "
                "the loss and the served model add it"
            )
        return model

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        return int(self.build(inputs, classes).count_params())


def _last_activation(model: keras.Model) -> str:
    layer = model
    while inner := getattr(layer, "operations", None) or getattr(layer, "layers", None):
        layer = inner[-1]
    name = getattr(getattr(layer, "activation", layer), "__name__", type(layer).__name__)
    return str(name).lower()


def build_seeded(spec: Model, inputs: Shape, classes: int | None, seed: int) -> keras.Model:
    """A new model whose initial weights are a function of ``seed``, whatever else this process does.

    Keras takes the seeds of its initializers from Python's global generator, which other threads use too. Here it gets
    a generator of its own, one model at a time.
    """
    from keras.src.random import seed_generator

    with _BUILDING:
        everybodys, seed_generator.python_random = seed_generator.python_random, random.Random(seed)  # noqa: S311 - weights, not secrets
        try:
            return spec.build(inputs, classes)
        finally:
            seed_generator.python_random = everybodys


AnyModel = Annotated[Linear | Logistic | Mlp | CustomModel, Field(discriminator="kind"), ByKind()]
