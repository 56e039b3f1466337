"""A user's own architectures: a function that builds one, or a file that Keras saved."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from federated.errors import PlanError
from federated.targets import Target, build
from models.architecture import Model, Shape, output_units

if TYPE_CHECKING:
    import keras


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
        _check(model, f"model.custom.target: {self.target}", classes)
        return model

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        return int(self.build(inputs, classes).count_params())


class SavedModel(Model):
    """The architecture in a ``.keras`` file. Its weights are not read, and code in it is not run.

    The output layer must be linear, as that of a custom model.
    """

    kind: Literal["saved"] = "saved"
    path: Path

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        where = f"model.saved.path: {self.path}"
        model = self._deserialized(where)
        expected = (None, *inputs)
        if model.input_shape != expected:
            raise PlanError(f"{where} must take examples of shape {expected}, it takes {model.input_shape}")
        _check(model, where, classes)
        return model

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        return int(self.build(inputs, classes).count_params())

    def _deserialized(self, where: str) -> keras.Model:
        import keras

        try:
            with zipfile.ZipFile(self.path) as file:
                config = json.loads(file.read("config.json"))
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
        except FileNotFoundError as error:
            raise PlanError(f"{where} is not there") from error
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise PlanError(
                f"{where} cannot be read as a model of Keras' own layers ({reason}); kind: custom takes others"
            ) from error
        if not isinstance(model, keras.Model):
            raise PlanError(f"{where} has a {type(model).__name__}, not a model")
        return model


def _check(model: keras.Model, where: str, classes: int | None) -> None:
    expected, shape = (None, output_units(classes)), getattr(model, "output_shape", "no fixed shape")
    if shape != expected:
        raise PlanError(f"{where} must end in shape {expected}, got {shape}")
    ending = _last_activation(model)
    if ending in ("sigmoid", "softmax"):
        raise PlanError(f"{where} ends in {ending}; end in a linear layer, the loss and the served model add it")


def _last_activation(model: keras.Model) -> str:
    layer = model
    while inner := getattr(layer, "operations", None) or getattr(layer, "layers", None):
        layer = inner[-1]
    name = getattr(getattr(layer, "activation", layer), "__name__", type(layer).__name__)
    return str(name).lower()
