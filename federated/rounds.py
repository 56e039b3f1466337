"""One round, as two functions: the client's half and the server's.

::

    ServerState ─▶ select ─▶ local_update ─▶ encode ═▶ Update ═▶ screen ─▶ server_half ─▶ ServerState
                             └──── client_half ────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from federated.algorithm import Algorithm
from federated.component import Metrics, Vector
from federated.data import Client
from federated.engine import Engine, Fitted
from federated.errors import TrainingError
from federated.randomness import generator
from federated.updates import Update, l2_norm


class ServerState(NamedTuple):
    """Everything the server carries from round to round; ``round`` counts those that are done.

    The first ``trainable`` entries of ``params`` are trained; the rest are moving statistics.
    """

    round: int
    params: Vector
    trainable: int
    rule: Any
    server: Any
    transforms: tuple[Any, ...]


def initial_state(algorithm: Algorithm, engine: Engine) -> ServerState:
    """The state before round 1."""
    params = engine.init(algorithm.seed)
    return ServerState(
        round=0,
        params=params,
        trainable=engine.trainable,
        rule=algorithm.rule.init(engine.size),
        server=algorithm.server.init(params[: engine.trainable]),
        transforms=tuple(layer.init(engine.trainable) for layer in algorithm.transforms),
    )


def select(algorithm: Algorithm, round: int, clients: Sequence[str]) -> tuple[str, ...]:
    """The cohort of a round."""
    return algorithm.select.select(round, clients, generator(algorithm.seed, round, "select"))


def local_rng(algorithm: Algorithm, round: int, client: str) -> np.random.Generator:
    """The randomness of one client's local training."""
    return generator(algorithm.seed, round, "local", client)


def local_update(client: Client, params: Vector, fitted: Fitted) -> Update:
    """What local training changed, before any transform."""
    return Update(client.name, fitted.params - params, float(len(client.train)), fitted.metrics)


def encode(algorithm: Algorithm, round: int, trainable: int, update: Update) -> Update:
    """The update as it leaves the client: every transform's client side, in order."""
    encoded = replace(update, delta=update.delta[:trainable])
    for position, layer in enumerate(algorithm.transforms):
        rng = generator(algorithm.seed, round, f"encode-{position}", update.client)
        encoded = layer.encode(encoded, rng)
    return _with_statistics(encoded, update.delta[trainable:])


def client_half(algorithm: Algorithm, engine: Engine, round: int, params: Vector, client: Client) -> Update:
    """All of a client's work in one round."""
    rng = local_rng(algorithm, round, client.name)
    fitted = engine.fit(params, client.train, algorithm.local, rng)
    update = local_update(client, params, fitted)
    return encode(algorithm, round, engine.trainable, update)


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
            f"NaN or infinity from {', '.join(left_out) or 'nobody'}"
            + ("; lower algorithm.local.optimizer.learning_rate or clip" if left_out else "")
        )
    return Screened(usable, left_out)


def server_half(algorithm: Algorithm, state: ServerState, updates: Sequence[Update]) -> tuple[ServerState, Metrics]:
    """All of the server's work in one round: decode, aggregate, finish, step.

    The order of ``updates`` does not matter. Moving statistics go to the rule's aggregate: no transform and no
    server optimizer touches them.

    Raises:
        ValueError: the rule got too few updates.
    """
    done, split = state.round + 1, state.trainable
    ordered = sorted(updates, key=lambda update: update.client)
    rule_state, aggregate, metrics = algorithm.rule.next(
        state.rule, (_decode(algorithm, split, update) for update in ordered)
    )
    delta, transform_states = aggregate[:split], list(state.transforms)
    cohort = tuple(update.client for update in ordered)
    for position, layer in _reverse(algorithm):
        rng = generator(algorithm.seed, done, f"finish-{position}")
        finished = layer.finish(transform_states[position], delta, cohort, rng)
        transform_states[position], delta = finished.state, finished.result
        metrics = metrics | finished.metrics
    stepped = algorithm.server.next(state.server, state.params[:split], delta)
    params = np.concatenate([stepped.result, state.params[split:] + aggregate[split:]])
    metrics = metrics | stepped.metrics | {"aggregate_norm": l2_norm(delta)}
    next_state = ServerState(done, params, split, rule_state, stepped.state, tuple(transform_states))
    return next_state, metrics


def _decode(algorithm: Algorithm, trainable: int, update: Update) -> Update:
    decoded = replace(update, delta=update.delta[:trainable])
    for _, layer in _reverse(algorithm):
        decoded = layer.decode(decoded)
    return _with_statistics(decoded, update.delta[trainable:])


def _reverse(algorithm: Algorithm) -> list[tuple[int, Any]]:
    return list(enumerate(algorithm.transforms))[::-1]


def _with_statistics(update: Update, statistics: Vector) -> Update:
    if statistics.size == 0:
        return update
    return replace(update, delta=np.concatenate([update.delta, statistics]))
