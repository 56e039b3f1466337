"""From a plan to what trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.plan import Plan
from federated.federation import Federation

if TYPE_CHECKING:
    from models.keras_engine import KerasEngine


def prepare() -> None:
    """Gives TensorFlow its settings. Before data are loaded: a loader of the user's own may start it."""
    from models.devices import prepare_devices

    prepare_devices()


def engine_of(plan: Plan, federation: Federation) -> KerasEngine:
    """The engine that ``plan`` asks for, ready to train. TensorFlow is imported here.

    Raises:
        PlanError: the model, its training and the devices of this machine do not fit.
    """
    from models.keras_engine import KerasEngine

    engine = KerasEngine(
        plan.model,
        federation.inputs,
        federation.classes,
        plan.compilation,
        plan.loss,
        plan.device,
        plan.replicas,
        plan.precision,
    )
    engine.prepare(plan.algorithm.local)
    return engine
