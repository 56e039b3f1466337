"""The plain loop: rounds one after the other, with nothing around them. What flows do is this, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from federated.algorithm import Algorithm
from federated.attacks import NOBODY, Adversary
from federated.component import Metrics, Vector
from federated.data import Client, Split
from federated.engine import Engine
from federated.onion import encode
from federated.rounds import (
    Memories,
    ServerState,
    abandon,
    broadcast,
    guide,
    local_updates,
    select,
    server_half,
)
from federated.selectors import Selection
from federated.updates import Update, screen


class Passed(NamedTuple):
    """The state after a round, the memories of those who learnt something in it, and what it did."""

    state: ServerState
    learnt: Memories
    selection: Selection
    updates: tuple[Update, ...]
    left_out: tuple[str, ...]
    metrics: Metrics


def one_round(
    algorithm: Algorithm,
    engine: Engine,
    state: ServerState,
    clients: Mapping[str, Client],
    memories: Memories,
    quorum: int = 1,
    root: Split | None = None,
    adversary: Adversary = NOBODY,
    selection: Selection | None = None,
    known: Vector | None = None,
) -> Passed:
    """The round after ``state``; ``memories`` is what clients have kept of earlier ones, ``root`` rows of the server's.

    ``adversary`` is behind those clients that attack; attackers lie before the transforms. Of a round that is computed
    again ``selection`` is known, and ``known`` is its aggregate, where clients cannot send once more what they sent.

    Raises:
        TrainingError: fewer than ``quorum`` of the updates are fit to use, or the new model is not finite.
    """
    number = state.round + 1
    selection = selection or select(algorithm, engine, number, state.params, clients)
    if len(selection.cohort) < quorum:
        return Passed(abandon(state), {}, selection, (), (), {})
    sent = broadcast(algorithm, state)
    cohort = [adversary.poisoned(number, clients[name]) for name in selection.cohort]
    kept = [memories.get(name, {}) for name in selection.cohort]
    trained = adversary.lied(number, list(local_updates(algorithm, engine, sent, cohort, kept)))
    heard = algorithm.hearing(sent.transforms)
    encoded = [encode(heard, number, engine.layers, one) for one in trained]
    usable, left_out = screen(number, [one.update for one in encoded], quorum)
    learnt = {update.client: memory for update, memory in encoded if memory and update.client not in left_out}
    guided = guide(algorithm, engine, sent, root) if algorithm.rule.needs_root and root is not None else None
    after, metrics = server_half(algorithm, state, usable, guided, known)
    metrics |= adversary.census(number, selection.cohort)
    return Passed(after, learnt, selection, usable, left_out, metrics)
