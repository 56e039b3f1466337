"""Keras optimizers as pure functions.

Keras' ``stateless_apply`` maps (slots, gradients, weights) to new weights and slots. The TensorFlow backend turns it
off, because ``tf.distribute`` wants variables (keras#18497). Local training is not distributed, so what that backend
overrides is put back to the common implementation.
"""

from __future__ import annotations

import keras
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer

from federated.errors import PlanError
from federated.local_optimizers import AnyLocalOptimizer, CustomOptimizer
from federated.targets import build

_COMMON = {
    name: getattr(BaseOptimizer, name)
    for name in vars(TFOptimizer)
    if name in vars(BaseOptimizer) and not name.startswith("__")
}


def stateless_optimizer(spec: AnyLocalOptimizer) -> keras.optimizers.Optimizer:
    """The optimizer that ``spec`` describes, with a working ``stateless_apply``.

    Raises:
        PlanError: Keras refuses it, or a custom target is no Keras optimizer.
    """
    optimizer = _stateful(spec)
    stateless = type(type(optimizer).__name__, (type(optimizer),), _COMMON)
    return stateless.from_config(optimizer.get_config())


def _stateful(spec: AnyLocalOptimizer) -> keras.optimizers.Optimizer:
    if isinstance(spec, CustomOptimizer):
        return build(spec.target, keras.optimizers.Optimizer, spec.options)
    config = spec.model_dump(exclude={"kind"})
    try:
        return keras.optimizers.get({"class_name": spec.kind, "config": config})
    except (TypeError, ValueError) as error:
        raise PlanError(f"algorithm.local.optimizer.{spec.kind}: {error}") from error
