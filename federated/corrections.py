"""What keeps clients with different data from drifting apart while they train.

A correction changes the client's objective from f(w) to f(w) + <linear, w> + proximal/2 · |w - x|², where x is the
global model: every gradient gets ``linear`` + ``proximal`` · (w - x). It may keep a vector on the client from round to
round (its memory, which is never sent), send one down with the model, and one up with the update.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from federated.component import ByKind, Component, Step, Vector
from federated.updates import Update

CONTROL = "control"
"""The change of a client's control variate, among the extras of its update."""


class Learnt(NamedTuple):
    """What a client keeps after local training, and the vectors that go up with its update."""

    memory: Vector
    extras: dict[str, Vector]


class Correction(Component, ABC):
    """One way of correcting drift; each hook does nothing unless a member says otherwise.

    Vectors have one entry a trainable weight.
    """

    @property
    def proximal(self) -> float:
        """How strongly local models are drawn to the global one."""
        return 0.0

    @property
    def needs_plain_sgd(self) -> bool:
        """Whether its arithmetic holds for plain gradient descent only."""
        return False

    @property
    def extra_vectors(self) -> int:
        """How many vectors go down beside the model, and up beside the update."""
        return 0

    @property
    def mirrors_updates(self) -> bool:
        """Whether server and clients each sum up the same updates, which then may not change on their way."""
        return False

    def init(self, size: int, clients: int) -> Any:
        """The server's state before round 1, for so many weights and so many clients in all."""
        return None

    def down(self, state: Any) -> Vector | None:
        """What the server sends to the cohort besides the model."""
        return None

    def fresh(self, size: int) -> Vector | None:
        """A client's memory before its first round; None where clients keep none."""
        return None

    def linear(self, down: Vector | None, memory: Vector) -> Vector:
        """On a client with a memory: what is added to every gradient."""
        return memory

    def learn(self, down: Vector | None, memory: Vector, delta: Vector, distance: float) -> Learnt:
        """On a client with a memory, after local training.

        ``delta`` is its model minus the global one, before any transform; ``distance`` is the sum of the learning rates
        of its steps.
        """
        return Learnt(memory, {})

    def finish(self, state: Any, aggregate: Vector, updates: Sequence[Update]) -> Step[Any, Vector]:
        """On the server, once a round: the aggregate as the server optimizer should see it."""
        return Step(state, aggregate, {})


class NoCorrection(Correction):
    """Clients train on their own objective: federated averaging."""

    kind: Literal["none"] = "none"


class FedProx(Correction):
    """A proximal term keeps local models near the global one (Li et al. 2020, equation 2)."""

    kind: Literal["fedprox"] = "fedprox"
    mu: float = Field(ge=0, description="weight of the proximal term; 0 is federated averaging")

    @property
    def proximal(self) -> float:
        return self.mu


class ScaffoldState(NamedTuple):
    """The server's control variate, shape (trainable,), and how many clients there are in all."""

    control: Vector
    clients: int


class Scaffold(Correction):
    """Control variates estimate each client's drift and take it out (Karimireddy et al. 2020, algorithm 1, option II).

    With K steps of rate η from x to y: cᵢ⁺ = cᵢ - c + (x - y) / (Kη), c⁺ = c + Σ(cᵢ⁺ - cᵢ) / N. The client keeps cᵢ and
    sends the change with its update; transforms do not touch it.
    """

    kind: Literal["scaffold"] = "scaffold"

    @property
    def extra_vectors(self) -> int:
        return 1

    @property
    def needs_plain_sgd(self) -> bool:
        return True

    def init(self, size: int, clients: int) -> ScaffoldState:
        return ScaffoldState(np.zeros(size, np.float32), clients)

    def down(self, state: Any) -> Vector | None:
        return np.asarray(state.control)

    def fresh(self, size: int) -> Vector | None:
        return np.zeros(size, np.float32)

    def linear(self, down: Vector | None, memory: Vector) -> Vector:
        return _sent(down) - memory

    def learn(self, down: Vector | None, memory: Vector, delta: Vector, distance: float) -> Learnt:
        change = -delta / np.float32(distance) - _sent(down)
        return Learnt(memory + change, {CONTROL: change})

    def finish(self, state: Any, aggregate: Vector, updates: Sequence[Update]) -> Step[Any, Vector]:
        control = state.control.copy()
        for update in updates:
            control += update.extras[CONTROL] / np.float32(state.clients)
        return Step(ScaffoldState(control, state.clients), aggregate, {})


def _sent(down: Vector | None) -> Vector:
    if down is None:
        raise ValueError("scaffold needs the server's control variate with the model, got none")
    return down


class FedDynState(NamedTuple):
    """The server's h, shape (trainable,), and how many clients there are in all."""

    h: Vector
    clients: int


class FedDyn(Correction):
    """Dynamic regularisation: each client's optimum moves to the global one (Acar et al. 2021, algorithm 1).

    Clients minimise f(w) - <gᵢ, w> + α/2 · |w - x|² and keep gᵢ⁺ = gᵢ - αδᵢ. The server keeps
    h⁺ = h - α · |cohort|/N · mean δ, and steps by mean δ - h⁺/α. The paper's mean is that of rule ``mean``.
    """

    kind: Literal["feddyn"] = "feddyn"
    alpha: float = Field(default=0.01, gt=0, description="weight of the regularisation")

    @property
    def proximal(self) -> float:
        return self.alpha

    @property
    def mirrors_updates(self) -> bool:
        return True

    def init(self, size: int, clients: int) -> FedDynState:
        return FedDynState(np.zeros(size, np.float32), clients)

    def fresh(self, size: int) -> Vector | None:
        return np.zeros(size, np.float32)

    def linear(self, down: Vector | None, memory: Vector) -> Vector:
        return -memory

    def learn(self, down: Vector | None, memory: Vector, delta: Vector, distance: float) -> Learnt:
        return Learnt(memory - np.float32(self.alpha) * delta, {})

    def finish(self, state: Any, aggregate: Vector, updates: Sequence[Update]) -> Step[Any, Vector]:
        h = state.h - np.float32(self.alpha * len(updates) / state.clients) * aggregate
        return Step(FedDynState(h, state.clients), aggregate - h / np.float32(self.alpha), {})


AnyCorrection = Annotated[NoCorrection | FedProx | Scaffold | FedDyn, Field(discriminator="kind"), ByKind()]
