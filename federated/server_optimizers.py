"""How the server applies an aggregate to the global model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from federated.component import Component, Step, Vector


class ServerOptimizer(Component, ABC):
    """Treats the aggregate as a step to take; works on trainable weights only."""

    @abstractmethod
    def init(self, params: Vector) -> Any:
        """The state before round 1."""

    @abstractmethod
    def next(self, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        """The next global model."""


class ServerSgd(ServerOptimizer):
    """x + ηδ. With η = 1 and a mean this is federated averaging (Reddi et al. 2021, section 2)."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=1.0, gt=0)

    def init(self, params: Vector) -> Any:
        return None

    def next(self, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        return Step(state, params + np.float32(self.learning_rate) * delta, {})


# The next server optimizer turns this into a union told apart by ``kind``, as in the other families.
AnyServerOptimizer = Annotated[ServerSgd, Field()]
