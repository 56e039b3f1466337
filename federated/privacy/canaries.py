"""Canaries in update space: clients that are made up, to see what a round tells of single ones.

::

    draw ─▶ Canaries ─▶ updates ─▶ the round under audit ─▶ seen(before, after) ─▶ Scored ─▶ a bound on epsilon
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federated.algorithm import Algorithm
from federated.component import Vector
from federated.onion import Trained, encode
from federated.privacy.auditing import Scored
from federated.rounds import ServerState, broadcast, server_half
from federated.transforms import Layers
from federated.updates import Update

_HEAVY = 1e9  # examples: more than any rule counts


class Canaries(NamedTuple):
    """``directions`` of shape (canaries, trainable), orthonormal; ``included`` by fair coins, shape (canaries,).

    What a canary would send is its direction times ``norm``.
    """

    directions: NDArray[np.float32]
    included: NDArray[np.bool_]
    norm: float

    def updates(self) -> list[Update]:
        """What those that take part have trained, before any transform. They say that they have very many examples."""
        return [
            Update(f"canary-{place:06d}", self.directions[place] * np.float32(self.norm), _HEAVY)
            for place in np.flatnonzero(self.included)
        ]

    def seen(self, before: Vector, after: Vector) -> Scored:
        """Their scores: how far the model went from ``before`` to ``after``, shape (parameters,), in each direction."""
        moved = (after.astype(np.float64) - before)[: self.directions.shape[1]]
        return Scored(self.directions @ moved, self.included)


def draw(count: int, trainable: int, norm: float, rng: np.random.Generator) -> Canaries:
    """Random canaries: orthogonal, so that no score depends on another canary's coin.

    Takes ``count`` · ``trainable`` numbers of memory, and a QR decomposition of as many.

    Raises:
        ValueError: more canaries than trainable numbers.
    """
    if not 0 < count <= trainable:
        raise ValueError(f"expected from 1 to {trainable} canaries, one a dimension at most, got {count}")
    basis, triangle = np.linalg.qr(rng.standard_normal((trainable, count)))
    directions = np.ascontiguousarray((basis * np.sign(np.diag(triangle))).T, np.float32)
    return Canaries(directions, rng.random(count) < 0.5, norm)


def audited_round(
    algorithm: Algorithm, layers: Layers, state: ServerState, updates: Sequence[Update], canaries: Canaries
) -> tuple[ServerState, Scored]:
    """The round after ``state``, with canaries beside ``updates``, which are encoded already: the very round.

    ``layers`` are the engine's. All canaries whose coin says so take part: what is audited is a round without
    amplification by sampling.
    """
    heard = algorithm.hearing(broadcast(algorithm, state).transforms)
    sent = [encode(heard, state.round + 1, layers, Trained(own, {})).update for own in canaries.updates()]
    after, _ = server_half(algorithm, state, [*updates, *sent])
    return after, canaries.seen(state.params, after.params)
