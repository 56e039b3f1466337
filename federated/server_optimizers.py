"""How the server applies an aggregate to the global model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from federated.component import ByKind, Component, Step, Vector
from federated.errors import TrainingError
from federated.schedules import AnySchedule, Constant


class ServerOptimizer(Component, ABC):
    """Treats the aggregate as a step to take; works on trainable weights only."""

    @abstractmethod
    def init(self, params: Vector) -> Any:
        """The state before round 1."""

    @abstractmethod
    def next(self, round: int, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        """The next global model, in ``round``, the first of which is 1."""


class ServerSgd(ServerOptimizer):
    """x + ηδ. With η = 1 and a mean this is federated averaging (Reddi et al. 2021, section 2)."""

    kind: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=1.0, gt=0)
    schedule: AnySchedule = Constant()

    def init(self, params: Vector) -> Any:
        return None

    def next(self, round: int, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        rate = np.float32(self.learning_rate * self.schedule.factor(round))
        return Step(state, params + rate * delta, {})


class Velocity(NamedTuple):
    """The sum of past deltas, each older one counting less, shape (trainable,)."""

    velocity: Vector


class ServerMomentum(ServerOptimizer):
    """x + ηv with v = βv + δ: FedAvgM (Hsu et al. 2019, section 4.3). With ``nesterov`` it is x + η(δ + βv)."""

    kind: Literal["momentum"] = "momentum"
    learning_rate: float = Field(default=1.0, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    schedule: AnySchedule = Constant()

    def init(self, params: Vector) -> Velocity:
        return Velocity(np.zeros_like(params))

    def next(self, round: int, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        rate, share = np.float32(self.learning_rate * self.schedule.factor(round)), np.float32(self.momentum)
        velocity = share * state.velocity + delta
        way = delta + share * velocity if self.nesterov else velocity
        return Step(Velocity(velocity), params + rate * way, {})


class Moments(NamedTuple):
    """A mean of past deltas, and a mean or a sum of their squares, each of shape (trainable,)."""

    first: Vector
    second: Vector


class _Adaptive(ServerOptimizer, ABC):
    """x + ηm / (√v + τ) with m = β₁m + (1 - β₁)δ: what Reddi et al. 2021, algorithm 2, have in common.

    m starts at zero and v at τ², and nothing corrects their bias, as in the paper. Where squares overflow float32, the
    training ends.
    """

    learning_rate: float = Field(default=0.01, gt=0)
    beta_1: float = Field(default=0.9, ge=0, lt=1)
    tau: float = Field(default=1e-3, gt=0, description="how far from adaptive; in the units of an update")
    schedule: AnySchedule = Constant()

    @abstractmethod
    def _second(self, second: Vector, squares: Vector) -> Vector:
        """The next v, from δ²."""

    def init(self, params: Vector) -> Moments:
        return Moments(np.zeros_like(params), np.full_like(params, self.tau**2))

    def next(self, round: int, state: Any, params: Vector, delta: Vector) -> Step[Any, Vector]:
        rate = np.float32(self.learning_rate * self.schedule.factor(round))
        first = np.float32(self.beta_1) * state.first + np.float32(1 - self.beta_1) * delta
        with np.errstate(over="ignore", invalid="ignore"):
            second = self._second(state.second, delta * delta)
        if not np.isfinite(second).all():  # the model would stand still for ever
            raise TrainingError(f"round {round}: the squares of the aggregate overflow; clip, or train slower")
        return Step(Moments(first, second), params + rate * first / (np.sqrt(second) + np.float32(self.tau)), {})


class ServerAdagrad(_Adaptive):
    """v = v + δ²: FedAdagrad (Reddi et al. 2021, algorithm 2). The paper's has ``beta_1`` 0.

    Flower's v starts at zero.
    """

    kind: Literal["adagrad"] = "adagrad"
    learning_rate: float = Field(default=0.1, gt=0)
    beta_1: float = Field(default=0.0, ge=0, lt=1)

    def _second(self, second: Vector, squares: Vector) -> Vector:
        return second + squares


class ServerAdam(_Adaptive):
    """v = β₂v + (1 - β₂)δ²: FedAdam (Reddi et al. 2021, algorithm 2).

    Flower's v starts at zero, and Flower corrects the bias of both moments through the learning rate, with an exponent
    one too large in every round.
    """

    kind: Literal["adam"] = "adam"
    beta_2: float = Field(default=0.99, ge=0, lt=1)

    def _second(self, second: Vector, squares: Vector) -> Vector:
        return np.float32(self.beta_2) * second + np.float32(1 - self.beta_2) * squares


class ServerYogi(_Adaptive):
    """v = v - (1 - β₂)δ² · sign(v - δ²): FedYogi (Reddi et al. 2021, algorithm 2).

    Flower's v starts at zero.
    """

    kind: Literal["yogi"] = "yogi"
    beta_2: float = Field(default=0.99, ge=0, lt=1)

    def _second(self, second: Vector, squares: Vector) -> Vector:
        return np.asarray(second - np.float32(1 - self.beta_2) * squares * np.sign(second - squares))


AnyServerOptimizer = Annotated[
    ServerSgd | ServerMomentum | ServerAdagrad | ServerAdam | ServerYogi, Field(discriminator="kind"), ByKind()
]
