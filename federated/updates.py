"""The only message that a client sends up."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federated.component import Metrics, Vector
from federated.errors import TrainingError

_NAMED = 20  # clients that a message names


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """One client's contribution to one round.

    ``delta`` is the trained model minus the global one, shape (parameters,), or what a transform has made of it;
    ``weight`` is what it counts, the number of training examples unless the rule weighs otherwise; ``metrics`` are the
    client's own numbers; ``extras`` are vectors that a rule, transform or correction asks for. ``local_steps`` is how
    many steps of plain gradient descent it is worth.
    ``loss`` is that of the global model on the client's training rows, before it trained: None where no rule asks.
    """

    client: str
    delta: Vector
    weight: float
    metrics: Metrics = field(default_factory=dict)
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)
    local_steps: float = 1.0
    loss: float | None = None

    @property
    def finite(self) -> bool:
        """Whether every number in it is finite, its metrics included."""
        vectors = (self.delta, *self.extras.values())
        numbers = np.isfinite([self.weight, self.local_steps, self.loss or 0.0, *self.metrics.values()]).all()
        return bool(numbers and all(np.isfinite(vector).all() for vector in vectors))

    @property
    def sha256(self) -> str:
        """The digest of its vectors, weight, steps and loss: what the client has sent."""
        hashed = hashlib.sha256(struct.pack("<dd", self.weight, self.local_steps))
        hashed.update(_content(self.delta))
        for name, vector in sorted(self.extras.items()):
            hashed.update(f"/{len(name)}/{name}/{vector.size}/".encode())
            hashed.update(_content(vector))
        if self.loss is not None:
            hashed.update(b"/loss/" + struct.pack("<d", self.loss))
        return hashed.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes of its vectors on the wire."""
        return self.delta.nbytes + sum(vector.nbytes for vector in self.extras.values())


class Screened(NamedTuple):
    """Updates fit to aggregate, and the names of clients whose updates were left out."""

    updates: tuple[Update, ...]
    left_out: tuple[str, ...]


def screen(round: int, updates: Sequence[Update], quorum: int) -> Screened:
    """Leaves out updates with NaN or infinity.

    Raises:
        TrainingError: fewer than ``quorum`` remain.
    """
    usable = tuple(update for update in updates if update.finite)
    left_out = tuple(sorted(update.client for update in updates if not update.finite))
    if len(usable) < quorum:
        raise TrainingError(
            f"round {round}: {len(usable)} usable updates, quorum is {quorum}; "
            f"NaN or infinity from {_listed(left_out)}"
            + ("; lower algorithm.local.optimizer.learning_rate or clip" if left_out else "")
        )
    return Screened(usable, left_out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more or "nobody"


def l2_norm(vector: Vector) -> float:
    """The Euclidean norm, accumulated in float64."""
    return float(np.sqrt(np.einsum("i,i", vector, vector, dtype=np.float64)))


def digest(vector: Vector) -> str:
    """SHA-256 of a vector's little-endian float32 bytes: the identity of a model's weights."""
    return hashlib.sha256(_content(vector)).hexdigest()


def _content(vector: NDArray[Any]) -> memoryview:
    """Its numbers as little-endian bytes."""
    return np.ascontiguousarray(vector, dtype=vector.dtype.newbyteorder("<")).data.cast("B")
