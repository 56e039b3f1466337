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
from federated.component import Metrics, Step, Vector
from federated.data import Client
from federated.engine import Engine, Fitted
from federated.errors import TrainingError
from federated.randomness import generator
from federated.updates import Update, l2_norm

_NAMED = 20  # clients that a message names


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
            f"NaN or infinity from {_listed(left_out)}"
            + ("; lower algorithm.local.optimizer.learning_rate or clip" if left_out else "")
        )
    return Screened(usable, left_out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more or "nobody"


def server_half(algorithm: Algorithm, state: ServerState, updates: Sequence[Update]) -> tuple[ServerState, Metrics]:
    """All of the server's work in one round: decode, aggregate, finish, step.

    The order of ``updates`` does not matter. Moving statistics go to the rule's aggregate: no transform and no
    server optimizer touches them.

    Raises:
        ValueError: the rule got too few updates.
        TrainingError: the new model is not finite.
    """
    done, split = state.round + 1, state.trainable
    ordered = sorted(updates, key=lambda update: update.client)
    statistics = state.params.size - split
    rule_state, aggregate, metrics = algorithm.rule.next(
        state.rule, (_decode(algorithm, statistics, update) for update in ordered)
    )
    cohort = tuple(update.client for update in ordered)
    finished = _finish(algorithm, state, aggregate[:split], cohort)
    stepped = algorithm.server.next(state.server, state.params[:split], finished.result)
    params = np.concatenate([stepped.result, state.params[split:] + aggregate[split:]])
    if not np.isfinite(params).all():
        raise TrainingError(
            f"round {done}: the aggregate of {len(ordered)} updates is not finite; clip, or train slower"
        )
    norm = {"aggregate_norm": l2_norm(finished.result)}
    next_state = ServerState(done, params, split, rule_state, stepped.state, finished.state)
    return next_state, metrics | finished.metrics | stepped.metrics | norm


def _finish(
    algorithm: Algorithm, state: ServerState, delta: Vector, cohort: Sequence[str]
) -> Step[tuple[Any, ...], Vector]:
    """The server's side of every transform, once a round, in reverse."""
    states, metrics = list(state.transforms), Metrics()
    for position, layer in _reverse(algorithm):
        rng = generator(algorithm.seed, state.round + 1, f"finish-{position}")
        finished = layer.finish(states[position], delta, cohort, rng)
        states[position], delta = finished.state, finished.result
        metrics |= finished.metrics
    return Step(tuple(states), delta, metrics)


def _decode(algorithm: Algorithm, statistics: int, update: Update) -> Update:
    """The update as the rule should see it. Its last ``statistics`` entries are no transform's business."""
    cut = update.delta.size - statistics
    decoded = replace(update, delta=update.delta[:cut])
    for _, layer in _reverse(algorithm):
        decoded = layer.decode(decoded)
    return _with_statistics(decoded, update.delta[cut:])


def _reverse(algorithm: Algorithm) -> list[tuple[int, Any]]:
    return list(enumerate(algorithm.transforms))[::-1]


def _with_statistics(update: Update, statistics: Vector) -> Update:
    if statistics.size == 0:
        return update
    return replace(update, delta=np.concatenate([update.delta, statistics]))
