"""The optimizers of local training: Keras' own, by their Keras names, arguments and defaults.

These are descriptions; the engine builds the optimizer. A test compares every field with Keras' signature. Keras'
ScheduleFreeAdamW is left out: its state is a copy of the weights, which a new round replaces.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from federated.component import ByKind, Component
from federated.targets import Target


class LocalOptimizer(Component):
    """What every Keras optimizer takes."""

    learning_rate: float = Field(default=0.001, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    clipnorm: float | None = Field(default=None, gt=0, description="gradient norm limit, by variable")
    clipvalue: float | None = Field(default=None, gt=0, description="gradient limit, by element")
    global_clipnorm: float | None = Field(default=None, gt=0, description="gradient norm limit, over all")

    @model_validator(mode="after")
    def _one_clip(self) -> Self:
        given = [name for name in ("clipnorm", "clipvalue", "global_clipnorm") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"only one way of clipping gradients may be set, got {' and '.join(given)}")
        return self


class Sgd(LocalOptimizer):
    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False

    def local_steps(self, steps: int, factor: float, proximal: float) -> float:
        """Steps of plain descent that ``steps`` of these are worth (Wang et al. 2020, FedNova, section 4.1: |a|).

        That is how far they go, in learning rates, where the gradient is 1 throughout. ``proximal`` is the weight of a
        proximal term, and ``factor`` that of the schedule.
        """
        way, velocity, pull = 0.0, 0.0, self.learning_rate * factor * proximal
        for _ in range(steps):
            gradient = 1.0 - pull * way
            velocity = self.momentum * velocity + gradient
            way += self.momentum * velocity + gradient if self.nesterov else velocity
        return way


class RmsProp(LocalOptimizer):
    kind: Literal["rmsprop"] = "rmsprop"
    rho: float = Field(default=0.9, ge=0, lt=1)
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False


class _AdamFamily(LocalOptimizer):
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: float = 1e-7


class Adam(_AdamFamily):
    kind: Literal["adam"] = "adam"
    amsgrad: bool = False


class AdamW(_AdamFamily):
    kind: Literal["adamw"] = "adamw"
    weight_decay: float | None = 0.004
    amsgrad: bool = False


class Adamax(_AdamFamily):
    kind: Literal["adamax"] = "adamax"


class Nadam(_AdamFamily):
    kind: Literal["nadam"] = "nadam"


class Lamb(_AdamFamily):
    kind: Literal["lamb"] = "lamb"


class Lion(LocalOptimizer):
    kind: Literal["lion"] = "lion"
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    beta_2: float = Field(default=0.99, ge=0, lt=1)


class Adagrad(LocalOptimizer):
    kind: Literal["adagrad"] = "adagrad"
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7


class Adadelta(LocalOptimizer):
    kind: Literal["adadelta"] = "adadelta"
    rho: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = 1e-7


class Adafactor(LocalOptimizer):
    kind: Literal["adafactor"] = "adafactor"
    beta_2_decay: float = -0.8
    epsilon_1: float = 1e-30
    epsilon_2: float = 1e-3
    clip_threshold: float = 1.0
    relative_step: bool = True


class Ftrl(LocalOptimizer):
    kind: Literal["ftrl"] = "ftrl"
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    l2_shrinkage_regularization_strength: float = 0.0
    beta: float = 0.0


class Muon(LocalOptimizer):
    kind: Literal["muon"] = "muon"
    weight_decay: float | None = 0.004
    momentum: float = 0.95
    nesterov: bool = True
    ns_steps: int = 5
    adam_beta_1: float = Field(default=0.9, ge=0, lt=1)
    adam_beta_2: float = Field(default=0.999, ge=0, lt=1)
    adam_weight_decay: float = 0.004
    epsilon: float = 1e-7


class CustomOptimizer(Component):
    """Your own ``keras.optimizers.Optimizer`` class; ``options`` are its arguments."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)


AnyLocalOptimizer = Annotated[
    Sgd
    | RmsProp
    | Adam
    | AdamW
    | Adamax
    | Nadam
    | Lamb
    | Lion
    | Adagrad
    | Adadelta
    | Adafactor
    | Ftrl
    | Muon
    | CustomOptimizer,
    Field(discriminator="kind"),
    ByKind(),
]
