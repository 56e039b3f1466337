"""What layers compute in while they train. Weights, losses, optimizers and the served model stay float32."""

from __future__ import annotations

import keras

from federated.errors import PlanError
from models.architecture import Precision, layers

LOSS_SCALES: dict[Precision, float] = {"float32": 1.0, "mixed_bfloat16": 1.0, "mixed_float16": 1024.0}
"""What losses are multiplied by on the way back, and gradients divided by after: below 6e-8 float16 knows only zero.

A constant, because a scale that adapts would carry over from client to client. A power of two, which rounds nothing.
"""


def check_precision(model: keras.Model, precision: Precision) -> None:
    """Whether ``model``, built for ``precision``, computes in it at all.

    Raises:
        PlanError: each of its layers has a type of its own.
    """
    computing = {layer.compute_dtype for layer in layers(model) if layer.weights}
    if precision != "float32" and keras.DTypePolicy(precision).compute_dtype not in computing:
        raise PlanError(
            f"precision: {precision}, but the layers of the model are made to compute in "
            f"{', '.join(sorted(computing))}; use float32, or build them without a dtype"
        )
