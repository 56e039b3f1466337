"""Keras optimizers as pure functions.

Keras' ``stateless_apply`` maps (slots, gradients, weights) to new weights and slots. The TensorFlow backend turns it
off, because ``tf.distribute`` wants variables (keras#18497). Local training is not distributed, so what that backend
overrides is put back to the common implementation.
"""

from __future__ import annotations

import keras
import numpy as np
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer
from numpy.typing import NDArray

from federated.errors import PlanError
from federated.local_optimizers import AnyLocalOptimizer, CustomOptimizer
from federated.targets import build

# A subclass of Keras' class, so that Python finds it before the backend's, but after an optimizer's own methods.
_Stateless = type(
    "_Stateless",
    (keras.optimizers.Optimizer,),
    {
        name: getattr(BaseOptimizer, name)
        for name in vars(TFOptimizer)
        if name in vars(BaseOptimizer) and not name.startswith("__")
    },
)

_UNSUPPORTED = ("use_ema", "gradient_accumulation_steps", "loss_scale_factor")
_BY_KIND = {name.lower(): found for name, found in vars(keras.optimizers).items() if isinstance(found, type)}


def stateless_optimizer(spec: AnyLocalOptimizer, model: keras.Model) -> keras.optimizers.Optimizer:
    """The optimizer that ``spec`` describes, built for the weights of ``model``, with a working ``stateless_apply``.

    Raises:
        PlanError: Keras refuses it, a custom target gives no Keras optimizer, or it cannot run from vector to vector.
    """
    field = f"algorithm.local.optimizer.{spec.kind}"
    try:
        optimizer = _stateful(spec)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{field}: {error}") from error
    for option in _UNSUPPORTED:
        if getattr(optimizer, option):
            raise PlanError(f"{field}: {option} does not work in local training; leave it out")
    optimizer.__class__ = type(type(optimizer).__name__, (type(optimizer), _Stateless), {})
    _set_apart(model)
    optimizer.build(model.trainable_variables)
    if _copies_weights(optimizer, model):
        raise PlanError(f"{field}: it starts from a copy of the weights, which change from round to round")
    return optimizer


def fresh_slots(optimizer: keras.optimizers.Optimizer) -> list[NDArray[np.float32]]:
    """The state before the first step."""
    return [np.asarray(variable) for variable in optimizer.variables]


def place_of_rate(optimizer: keras.optimizers.Optimizer) -> int | None:
    """Where the learning rate stands among the slots; None where a Keras schedule of the steps takes its place."""
    rate = optimizer._learning_rate
    return next((place for place, variable in enumerate(optimizer.variables) if variable is rate), None)


def _stateful(spec: AnyLocalOptimizer) -> keras.optimizers.Optimizer:
    if isinstance(spec, CustomOptimizer):
        return build(spec.target, keras.optimizers.Optimizer, spec.options)
    return _BY_KIND[spec.kind](**spec.model_dump(exclude={"kind"}))


def _set_apart(model: keras.Model) -> None:
    """Gives the weights values that no slot has by chance. The engine's model is a shape: its weights are not used."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))


def _copies_weights(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> bool:
    weights = [np.asarray(variable) for variable in model.trainable_variables]
    return any(np.array_equal(slot, weight) for slot in fresh_slots(optimizer) for weight in weights)
