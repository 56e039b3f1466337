"""An algorithm: three independent lists (rule, server optimizer, transforms) around local training."""

from __future__ import annotations

from pydantic import Field

from federated.component import Component
from federated.local_optimizers import LocalTraining
from federated.rules import AnyRule, WeightedMean
from federated.selectors import All, AnySelector
from federated.server_optimizers import AnyServerOptimizer, ServerSgd
from federated.transforms import AnyTransform


class Algorithm(Component):
    """Everything that decides the numbers of a training, given the data and the model."""

    seed: int = Field(default=0, ge=0)
    select: AnySelector = All()
    local: LocalTraining = LocalTraining()
    transforms: tuple[AnyTransform, ...] = ()
    rule: AnyRule = WeightedMean()
    server: AnyServerOptimizer = ServerSgd()
