"""What every architecture of a plan is."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from federated.component import Component
from federated.errors import PlanError

if TYPE_CHECKING:
    import keras

Shape = tuple[int, ...]

Asked = Literal["auto", "graph", "xla", "vectorized"]
"""How local training is to be compiled."""

DeviceType = Literal["cpu", "gpu"]

AskedDevice = Literal["auto", "cpu", "gpu"]
"""What local training is to run on; ``auto``: GPUs where there are any."""

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
"""What layers compute in: a Keras dtype policy. Weights are float32 in all of them."""

BUILDING = threading.Lock()
"""Held while Keras builds a model: it takes seeds from a generator that is everybody's."""


def output_units(classes: int | None) -> int:
    """Width of the output: one logit for two classes, one a class for more, one value for regression."""
    return classes if classes is not None and classes > 2 else 1


class Model(Component, ABC):
    """An architecture. Its output is linear: logits, or the regressed value. Keras is imported when it is built."""

    def check(self, inputs: Shape, classes: int | None) -> None:
        """Whether the model fits the examples' shape and the kind of target.

        Raises:
            PlanError: it does not.
        """

    def check_rows(self, x: NDArray[np.float32], whose: str) -> None:
        """Whether the model can take these examples.

        Raises:
            PlanError: it cannot.
        """

    @abstractmethod
    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        """A new Keras model for examples of shape ``inputs``; ``classes`` is None for regression."""

    @abstractmethod
    def parameters(self, inputs: Shape, classes: int | None) -> int:
        """How many numbers the model has, trainable or moving."""


def require_shape(kind: str, inputs: Shape, wanted: str, fits: bool) -> None:
    """Refuses examples of another shape.

    Raises:
        PlanError: ``fits`` is false.
    """
    if not fits:
        raise PlanError(f"model.{kind}: takes examples of shape {wanted}, the data have {inputs}")


def require_ids(kind: str, what: str, values: NDArray[np.float32], count: int, whose: str) -> None:
    """Refuses what is no whole number from 0 to ``count`` - 1: an embedding would look up what is not there.

    Raises:
        PlanError: there is such a value.
    """
    wrong = values[(values < 0) | (values >= count) | (values != np.floor(values))]
    if wrong.size:
        raise PlanError(
            f"model.{kind}: {what} are numbers from 0 to {count - 1}, but {whose} has {wrong.flat[0]:g}; "
            "raise their count, mend the data, or leave them unscaled (scaling as_is)"
        )


def layers(model: keras.Model) -> list[keras.Layer]:
    """Every layer, inner models and their layers included."""
    return list(model._flatten_layers(include_self=False))


def graph_of(model: keras.Model) -> keras.Model | None:
    """The functional model whose operations are all that a model does; None where it has a ``call`` of its own."""
    import keras
    from keras.src.models.functional import Functional

    graph = getattr(model, "_functional", None) if type(model) is keras.Sequential else model
    return graph if type(graph) is Functional else None


def build_seeded(
    spec: Model, inputs: Shape, classes: int | None, seed: int, precision: Precision = "float32"
) -> keras.Model:
    """A new model whose initial weights are a function of ``seed``, whatever else this process does.

    Keras takes the seeds of its initializers from Python's global generator, which other threads use too. Here it gets
    a generator of its own, one model at a time.
    """
    import keras
    from keras.src.random import seed_generator

    policy = keras.config.dtype_policy()
    with BUILDING:
        keras.config.set_dtype_policy(precision)
        everybodys, seed_generator.python_random = seed_generator.python_random, random.Random(seed)  # noqa: S311 - weights, not secrets
        try:
            return spec.build(inputs, classes)
        finally:
            seed_generator.python_random = everybodys
            keras.config.set_dtype_policy(policy)
