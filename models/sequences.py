"""Recurrent architectures, for sequences of numbers or of tokens."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.architecture import Model, Shape, output_units, require_ids, require_shape

if TYPE_CHECKING:
    import keras


class _Recurrent(Model):
    """A recurrent layer whose last state feeds the output.

    Examples are (steps, features); or (steps,), which are tokens below ``vocabulary`` where that is given, and
    otherwise one number a step.
    """

    kind: str
    units: int = Field(default=32, ge=1)
    vocabulary: int | None = Field(default=None, ge=1, description="how many tokens there are; null: numbers")
    embedding: int = Field(default=16, ge=1, description="numbers a token becomes")

    _layer: ClassVar[str]

    def check(self, inputs: Shape, classes: int | None) -> None:
        if self.vocabulary is None:
            require_shape(self.kind, inputs, "(steps,) or (steps, features)", len(inputs) in (1, 2))
        else:
            require_shape(self.kind, inputs, "(steps,) with a vocabulary", len(inputs) == 1)

    def check_rows(self, x: NDArray[np.float32], whose: str) -> None:
        if self.vocabulary is not None:
            require_ids(self.kind, "tokens", x, self.vocabulary, whose)

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        if self.vocabulary is not None:
            prepared: keras.Layer = keras.layers.Embedding(self.vocabulary, self.embedding)
        else:
            prepared = keras.layers.Reshape((inputs[0], self._features(inputs)))
        recurrent = getattr(keras.layers, self._layer)(self.units)
        output = keras.layers.Dense(output_units(classes), name="output")
        return keras.Sequential([keras.Input(inputs), prepared, recurrent, output])

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        embedded = 0 if self.vocabulary is None else self.vocabulary * self.embedding
        return embedded + self._recurrent(self._features(inputs)) + (self.units + 1) * output_units(classes)

    def _features(self, inputs: Shape) -> int:
        if self.vocabulary is not None:
            return self.embedding
        return inputs[1] if len(inputs) == 2 else 1

    @abstractmethod
    def _recurrent(self, features: int) -> int:
        """Weights of the recurrent layer, for so many numbers a step."""


class Lstm(_Recurrent):
    """Long short-term memory (Hochreiter, Schmidhuber 1997)."""

    kind: Literal["lstm"] = "lstm"
    _layer = "LSTM"

    def _recurrent(self, features: int) -> int:
        return 4 * self.units * (self.units + features + 1)


class Gru(_Recurrent):
    """Gated recurrent units (Cho et al. 2014), with Keras' two biases a gate."""

    kind: Literal["gru"] = "gru"
    _layer = "GRU"

    def _recurrent(self, features: int) -> int:
        return 3 * self.units * (self.units + features + 2)
