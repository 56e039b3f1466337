"""Convolutional architectures, for images of shape (height, width, channels)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from models.architecture import Model, Shape, output_units, require_shape

if TYPE_CHECKING:
    import keras

_IMAGE, _KERNEL = "(height, width, channels)", 5


class Cnn(Model):
    """Two 5x5 convolutions with 2x2 max-pooling, and a dense layer: the FedAvg paper's CNN (McMahan et al. 2017).

    With its defaults, "same" padding and 28x28 grey images it has 1,663,370 parameters.
    """

    kind: Literal["cnn"] = "cnn"
    filters: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (32, 64)
    hidden: int = Field(default=512, ge=1)

    def check(self, inputs: Shape, classes: int | None) -> None:
        require_shape("cnn", inputs, f"{_IMAGE}, 4x4 or larger", len(inputs) == 3 and min(inputs[:2]) >= 4)

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        convolutions = [
            layer
            for filters in self.filters
            for layer in (
                keras.layers.Conv2D(filters, _KERNEL, padding="same", activation="relu"),
                keras.layers.MaxPooling2D(),
            )
        ]
        dense = keras.layers.Dense(self.hidden, activation="relu")
        output = keras.layers.Dense(output_units(classes), name="output")
        return keras.Sequential([keras.Input(inputs), *convolutions, keras.layers.Flatten(), dense, output])

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        height, width, channels = inputs
        pooled = (height // 2 // 2) * (width // 2 // 2) * self.filters[-1]
        convolutions = sum((_KERNEL**2 * before + 1) * after for before, after in pairwise((channels, *self.filters)))
        dense = sum((before + 1) * after for before, after in pairwise((pooled, self.hidden, output_units(classes))))
        return convolutions + dense


class ResNet(Model):
    """A small residual network (He et al. 2016) with group normalisation (Wu, He 2018): no moving statistics.

    ``widths`` are the channels of its stages, of ``blocks`` blocks each; every stage but the first halves the image.
    """

    kind: Literal["resnet"] = "resnet"
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(16, 32, 64), min_length=1)
    blocks: int = Field(default=1, ge=1)
    groups: int = Field(default=8, ge=1, description="groups of channels that are normalised together")

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        for width in self.widths:
            if width % self.groups:
                raise ValueError(f"groups must divide every width, {self.groups} does not divide {width}")
        return self

    def check(self, inputs: Shape, classes: int | None) -> None:
        smallest = 2 ** (len(self.widths) - 1)
        fits = len(inputs) == 3 and min(inputs[:2]) >= smallest
        require_shape("resnet", inputs, f"{_IMAGE}, {smallest}x{smallest} or larger", fits)

    def build(self, inputs: Shape, classes: int | None) -> keras.Model:
        import keras

        images = keras.Input(inputs)
        x = keras.layers.Activation("relu")(self._convolved(images, self.widths[0], 3, 1))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                x = self._block(x, width, 2 if stage and not block else 1)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, keras.layers.Dense(output_units(classes), name="output")(x))

    def parameters(self, inputs: Shape, classes: int | None) -> int:
        before, count = self.widths[0], self._weights(inputs[-1], self.widths[0], 3)
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                count += self._weights(before, width, 3) + self._weights(width, width, 3)
                if before != width or (stage and not block):
                    count += self._weights(before, width, 1)
                before = width
        return count + (before + 1) * output_units(classes)

    def _weights(self, before: int, after: int, kernel: int) -> int:
        return kernel**2 * before * after + 2 * after

    def _convolved(self, x: keras.KerasTensor, width: int, kernel: int, stride: int) -> keras.KerasTensor:
        import keras

        x = keras.layers.Conv2D(width, kernel, stride, padding="same", use_bias=False)(x)
        return keras.layers.GroupNormalization(self.groups)(x)

    def _block(self, x: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
        import keras

        y = keras.layers.Activation("relu")(self._convolved(x, width, 3, stride))
        y = self._convolved(y, width, 3, 1)
        if stride > 1 or x.shape[-1] != width:
            x = self._convolved(x, width, 1, stride)
        return keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
