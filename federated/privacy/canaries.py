"""Canaries in update space: clients that are made up, to see what a round tells of single ones.

::

    draw ─▶ Canaries ─▶ updates ─▶ the round under audit ─▶ seen(before, after) ─▶ Scored ─▶ a bound on epsilon

What is released, and so what is looked at, differs:

====================  ==========================================  ==========================
noise                 release                                     audit
====================  ==========================================  ==========================
central, adaptive     how the model moves in a round              ``audited_round``
distributed           the same; canaries left out send zeros      ``audited_round``
local                 each message by itself                      ``audited_messages``
correlated            all rounds of a training together           ``audited_training``
dp_sgd                what a client sends, of rows so made that   ``Canaries.told``
                      their gradients are canaries
====================  ==========================================  ==========================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federated.algorithm import Algorithm
from federated.component import Vector
from federated.onion import Trained, decode, encode
from federated.privacy.auditing import Floats, Scored
from federated.privacy.prefix_sums import factor
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

    def everybody(self) -> list[Update]:
        """The same, and zero updates of those left out: where it is known who takes part, that is what they send."""
        trained = self._replace(
            directions=self.directions * self.included[:, None], included=np.ones_like(self.included)
        )
        return trained.updates()

    def seen(self, before: Vector, after: Vector) -> Scored:
        """Their scores: how far the model went from ``before`` to ``after``, shape (parameters,), in each direction."""
        return self.told(after.astype(np.float64) - before)

    def told(self, released: Floats) -> Scored:
        """Their scores: how far ``released``, shape (parameters,), lies in each direction."""
        return Scored(self.directions @ released[: self.directions.shape[1]], self.included)


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
    amplification by sampling. Where clients add the noise, the others take part with zero updates.
    """
    own = canaries.everybody() if algorithm.noised_by == "clients" else canaries.updates()
    after, _ = server_half(algorithm, state, [*updates, *_encoded(algorithm, layers, state, own)])
    return after, canaries.seen(state.params, after.params)


def audited_messages(algorithm: Algorithm, layers: Layers, state: ServerState, canaries: Canaries) -> Scored:
    """The messages of the round after ``state``, each on its own, as the server reads them.

    A canary's score is how far its own message lies in its direction: that of one left out is of a zero update.
    """
    sent = _encoded(algorithm, layers, state, canaries.everybody())
    read = np.stack([decode(algorithm, state.round + 1, state.trainable, message).delta for message in sent])
    scores = np.sum(canaries.directions.astype(np.float64) * read[:, : state.trainable], axis=1)
    return Scored(scores, canaries.included)


def audited_training(
    algorithm: Algorithm,
    layers: Layers,
    state: ServerState,
    cohorts: Sequence[Sequence[Update]],
    canaries: Canaries,
    often: int,
) -> Floats:
    """The rounds after ``state`` as one release: C times how the model moved in them, shape (rounds, parameters).

    ``cohorts`` are others' updates, round by round, which are encoded already; canaries are in the first ``often``
    rounds. C is the factor of ``federated.privacy.prefix_sums``: by it correlated noise becomes independent from row
    to row.
    """
    moves = np.empty((len(cohorts), state.params.size))
    for number, updates in enumerate(cohorts):
        own = _encoded(algorithm, layers, state, canaries.updates()) if number < often else []
        after, _ = server_half(algorithm, state, [*updates, *own])
        moves[number], state = after.params.astype(np.float64) - state.params, after
    column = factor(len(cohorts))
    return np.stack([column[row::-1] @ moves[: row + 1] for row in range(len(cohorts))])


def in_the_first(often: int, rounds: int) -> Floats:
    """How much each row that ``audited_training`` gives tells of a client in the first ``often`` of ``rounds`` rounds.

    Shape (rounds,). Of rows with equal, independent Gaussian noise, what tells most is the sum with these weights
    (Neyman and Pearson 1933). These rounds are the ones that tell most: see ``sensitivity``.
    """
    return np.convolve(factor(rounds), np.ones(often))[:rounds]


def _encoded(algorithm: Algorithm, layers: Layers, state: ServerState, updates: Sequence[Update]) -> list[Update]:
    """As clients send them in the round after ``state``."""
    heard = algorithm.hearing(broadcast(algorithm, state).transforms)
    return [encode(heard, state.round + 1, layers, Trained(own, {})).update for own in updates]
