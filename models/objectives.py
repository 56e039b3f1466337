"""What a model is trained for, given the kind of target: the loss, the scores, the served output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import keras
from keras import ops

from federated.errors import PlanError


class Objective(Protocol):
    """A loss an example, a second score to read, and the layer that turns logits into what a caller wants."""

    score_name: str
    target_dtype: str

    def loss(self, targets: Any, outputs: Any) -> Any:
        """Shape (rows,): what training minimises the mean of."""

    def score(self, targets: Any, outputs: Any) -> Any:
        """Shape (rows,): the score called ``score_name``."""

    def activation(self) -> keras.Layer | None:
        """What the served model adds behind the output."""


class SquaredError(NamedTuple):
    """Regression: squared error, absolute error, the value itself."""

    score_name: str = "mae"
    target_dtype: str = "float32"

    def loss(self, targets: Any, outputs: Any) -> Any:
        return ops.square(outputs[:, 0] - targets)

    def score(self, targets: Any, outputs: Any) -> Any:
        return ops.abs(outputs[:, 0] - targets)

    def activation(self) -> keras.Layer | None:
        return None


class BinaryCrossEntropy(NamedTuple):
    """Two classes from one logit; the served model gives the probability of class 1."""

    score_name: str = "accuracy"
    target_dtype: str = "int32"

    def loss(self, targets: Any, outputs: Any) -> Any:
        # Softplus of the logit's margin: stable for any logit.
        signs = 1.0 - 2.0 * ops.cast(targets, outputs.dtype)
        return ops.softplus(signs * outputs[:, 0])

    def score(self, targets: Any, outputs: Any) -> Any:
        return ops.cast(ops.equal(ops.cast(outputs[:, 0] > 0, "int32"), targets), "float32")

    def activation(self) -> keras.Layer | None:
        return keras.layers.Activation("sigmoid", name="probability")


class CrossEntropy(NamedTuple):
    """Several classes, a logit each; the served model gives their probabilities."""

    score_name: str = "accuracy"
    target_dtype: str = "int32"

    def loss(self, targets: Any, outputs: Any) -> Any:
        return ops.sparse_categorical_crossentropy(targets, outputs, from_logits=True)

    def score(self, targets: Any, outputs: Any) -> Any:
        return ops.cast(ops.equal(ops.cast(ops.argmax(outputs, -1), "int32"), targets), "float32")

    def activation(self) -> keras.Layer | None:
        return keras.layers.Softmax(name="probabilities")


class OwnLoss:
    """A user's own loss, with the score and the served output of the usual objective.

    Raises:
        PlanError: it cannot be computed, or gives no number an example.
    """

    def __init__(self, usual: Objective, loss: Callable[..., Any], where: str, units: int) -> None:
        self._usual, self._loss = usual, loss
        self.score_name, self.target_dtype = usual.score_name, usual.target_dtype
        self._try(where, units)

    def loss(self, targets: Any, outputs: Any) -> Any:
        return self._loss(targets, outputs)

    def score(self, targets: Any, outputs: Any) -> Any:
        return self._usual.score(targets, outputs)

    def activation(self) -> keras.Layer | None:
        return self._usual.activation()

    def _try(self, where: str, units: int) -> None:
        """On two examples of a model with so many outputs."""
        try:
            shape = tuple(ops.shape(self._loss(ops.zeros(2, self.target_dtype), ops.zeros((2, units)))))
        except Exception as error:  # whatever a user's function raises
            raise PlanError(f"{where} failed on two examples: {type(error).__name__}: {error}") from error
        if shape != (2,):
            raise PlanError(f"{where} must give a number an example, shape (rows,); for 2 rows it gave shape {shape}")


def objective(classes: int | None) -> Objective:
    """The objective for ``classes`` classes; None is regression."""
    if classes is None:
        return SquaredError()
    return BinaryCrossEntropy() if classes == 2 else CrossEntropy()
