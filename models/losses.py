"""What training minimises, as a plan names it."""

from __future__ import annotations

from abc import ABC
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from federated.component import ByKind, Component
from federated.errors import PlanError
from federated.targets import Target, function
from models.architecture import output_units

if TYPE_CHECKING:
    from models.objectives import Objective


class Loss(Component, ABC):
    """A loss an example; training minimises its mean."""

    kind: str

    _targets: ClassVar[str] = ""

    def check(self, classes: int | None) -> None:
        """Whether it fits the kind of target; ``classes`` is None for regression.

        Raises:
            PlanError: it does not.
        """
        targets = "values" if classes is None else "two classes" if classes == 2 else "several classes"
        if self._targets not in ("", targets):
            raise PlanError(f"loss: {self.kind} is for {self._targets}, the data have {targets}; auto fits")

    def objective(self, classes: int | None) -> Objective:
        """What the engine trains and scores by. Keras is imported here."""
        from models.objectives import objective

        return objective(classes)


class Auto(Loss):
    """Squared error for values, binary cross-entropy for two classes, categorical for more."""

    kind: Literal["auto"] = "auto"


USUAL = Auto()


class MeanSquaredError(Loss):
    """(output - target)², for regression."""

    kind: Literal["mean_squared_error"] = "mean_squared_error"
    _targets = "values"


class BinaryCrossEntropy(Loss):
    """-log of the probability of the right one of two classes, from one logit."""

    kind: Literal["binary_crossentropy"] = "binary_crossentropy"
    _targets = "two classes"


class CategoricalCrossEntropy(Loss):
    """-log of the probability of the right class, from a logit each."""

    kind: Literal["categorical_crossentropy"] = "categorical_crossentropy"
    _targets = "several classes"


class CustomLoss(Loss):
    """Your own: ``target`` names ``loss(targets, outputs, **options)``, which gives a loss an example, shape (rows,).

    ``targets`` are of shape (rows,), ``outputs`` those of the model's last layer, shape (rows, units). Written with
    ``keras.ops``, so that it has a gradient. The score beside the loss and the served output stay those of ``auto``.
    """

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    def objective(self, classes: int | None) -> Objective:
        from models.objectives import OwnLoss, objective

        where, own = f"loss.custom.target: {self.target}", function(self.target, self.options)
        return OwnLoss(objective(classes), own, where, output_units(classes))


AnyLoss = Annotated[
    Auto | MeanSquaredError | BinaryCrossEntropy | CategoricalCrossEntropy | CustomLoss,
    Field(discriminator="kind"),
    ByKind(),
]
