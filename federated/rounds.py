"""One round, as two functions: the client's half and the server's.

::

    ServerState ─▶ select ─▶ broadcast ─▶ local_updates ─▶ encode ═▶ Update ═▶ screen ─▶ server_half ─▶ ServerState
                              memory ─▶         │            └─▶ memory
                                           client_half
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import numpy as np

from federated.algorithm import Algorithm
from federated.component import Metrics, Vector
from federated.data import Client, Split
from federated.engine import Engine, Fitted, Terms
from federated.errors import PlanError, TrainingError, stage
from federated.onion import Memory, Trained, decode, encode, finish
from federated.randomness import generator, secret_generator
from federated.selectors import Pool, Selection
from federated.transforms import Transform
from federated.updates import Update, l2_norm

_CORRECTION = "correction"


class ServerState(NamedTuple):
    """Everything the server carries from round to round; ``round`` counts those that are done.

    The first ``trainable`` entries of ``params`` are trained; the rest are moving statistics. ``aggregate``, shape
    (parameters,), is what the rule made of the last round's messages, where it is kept.
    """

    round: int
    params: Vector
    trainable: int
    rule: Any
    server: Any
    correction: Any
    transforms: tuple[Any, ...]
    aggregate: Vector | None = None


class Broadcast(NamedTuple):
    """What the server sends to every client of a cohort: the model, what the correction adds, and transforms as of now.

    Without ``transforms`` they are the plan's.
    """

    round: int
    params: Vector
    extra: Vector | None
    transforms: tuple[Transform, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its vectors on the wire."""
        return self.params.nbytes + (0 if self.extra is None else self.extra.nbytes)


Memories = dict[str, Memory]
"""What clients keep, by client; one that keeps nothing is not in it."""


def initial_state(algorithm: Algorithm, engine: Engine, clients: int) -> ServerState:
    """The state before round 1, for so many clients in all.

    Raises:
        PlanError: the algorithm does not fit the model.
    """
    if engine.size > engine.trainable and not algorithm.rule.averages:
        raise PlanError(
            f"algorithm.rule: {algorithm.rule.kind} cannot average what no gradient moves (batch normalisation, "
            "frozen layers); use group normalisation, or another rule"
        )
    if engine.size > engine.trainable and algorithm.noised_by != "nobody":
        raise PlanError(
            "algorithm.transforms: no noise hides what no gradient moves (batch normalisation, frozen layers); use "
            "group normalisation"
        )
    params = engine.init(algorithm.seed)
    return ServerState(
        round=0,
        params=params,
        trainable=engine.trainable,
        rule=algorithm.rule.init(engine.size),
        server=algorithm.server.init(params[: engine.trainable]),
        correction=algorithm.correction.init(engine.trainable, clients),
        transforms=tuple(layer.init(engine.trainable) for layer in algorithm.transforms),
        aggregate=np.zeros_like(params) if algorithm.keeps_aggregate else None,
    )


def select(
    algorithm: Algorithm, engine: Engine, round: int, params: Vector, clients: Mapping[str, Client]
) -> Selection:
    """The cohort of a round, which begins with the model ``params``."""

    def losses(names: Sequence[str]) -> Mapping[str, float]:
        if algorithm.unit is not None and not algorithm.select.asks_losses:
            raise TrainingError(
                f"select {algorithm.select.kind} asks clients for losses, which no noise hides, and does not say so "
                "(asks_losses)"
            )
        return {name: loss_of(engine, params, clients[name]) for name in names}

    # Noise that hides what clients hold has refused selectors that say that they go by it.
    rows = {name: 1 if algorithm.hides_rows else len(client.train) for name, client in clients.items()}
    pool = Pool(rows, {name: client.card for name, client in clients.items()}, losses)
    # Who knows the cohort of a round that hides clients knows more than is counted.
    hidden = algorithm.secret and algorithm.unit == "client"
    rng = secret_generator() if hidden else generator(algorithm.seed, round, "select")
    return algorithm.select.select(round, pool, rng)


def loss_of(engine: Engine, params: Vector, client: Client) -> float:
    """The loss of a model on a client's training rows."""
    return float(np.mean(engine.score(params, client.train)["loss"], dtype=np.float64))


def broadcast(algorithm: Algorithm, state: ServerState) -> Broadcast:
    """What goes down in the round after ``state``."""
    layers = zip(algorithm.transforms, state.transforms, strict=True)
    now = tuple(layer.now(left) for layer, left in layers)
    return Broadcast(state.round + 1, state.params, algorithm.correction.down(state.correction), now)


def local_updates(
    algorithm: Algorithm, engine: Engine, sent: Broadcast, clients: Sequence[Client], memories: Sequence[Memory]
) -> Iterator[Trained]:
    """Local training of some of a cohort, client after client: updates before any transform.

    Raises:
        StageError: a client's failed; it says whose.
    """
    fresh = algorithm.correction.fresh(engine.trainable)
    # What another correction left, before a change of the plan, is nothing to one that keeps none.
    kept = [None if fresh is None else memory.get(_CORRECTION, fresh) for memory in memories]
    terms = [_terms(algorithm, sent, client, own) for client, own in zip(clients, kept, strict=True)]
    rngs = [_local_rng(algorithm, sent, client) for client in clients]
    fits = engine.fit_cohort(sent.params, clients, algorithm.local, rngs, terms)
    for place, (client, memory, correction, own) in enumerate(zip(clients, memories, kept, terms, strict=True)):
        try:
            fitted = next(fits)
        except Exception as error:
            _blame(algorithm, engine, sent, clients[place:], terms[place:], error)
        update, learnt = _learnt(algorithm, engine.trainable, sent, client, correction, own, fitted)
        if algorithm.rule.needs_loss:
            update = replace(update, loss=loss_of(engine, sent.params, client))
        yield Trained(update, memory if learnt is None else memory | {_CORRECTION: learnt})


def client_half(
    algorithm: Algorithm, engine: Engine, sent: Broadcast, client: Client, memory: Memory | None = None
) -> Trained:
    """All of a client's work in one round: what it sends, and its memory afterwards."""
    (trained,) = local_updates(algorithm, engine, sent, [client], [memory or {}])
    return encode(algorithm.hearing(sent.transforms), sent.round, engine.layers, trained)


def _local_rng(algorithm: Algorithm, sent: Broadcast, client: Client) -> np.random.Generator:
    return generator(algorithm.seed, sent.round, "local", client.name)


def _blame(
    algorithm: Algorithm,
    engine: Engine,
    sent: Broadcast,
    clients: Sequence[Client],
    terms: Sequence[Terms],
    error: Exception,
) -> NoReturn:
    """Finds out whose training it was that failed: some clients may train together.

    Raises:
        StageError: with the client's name, or with the first and the last where none fails alone.
    """
    for client, own in zip(clients, terms, strict=True):
        with stage(sent.round, "local training", client.name):
            engine.fit(sent.params, client.train, algorithm.local, _local_rng(algorithm, sent, client), own)
    with stage(sent.round, "local training", f"{clients[0].name} … {clients[-1].name}"):
        raise error
    raise error  # one that the stage leaves as it is


def steps_of(algorithm: Algorithm, round: int, client: Client) -> int:
    """The steps that a client takes in a round."""
    rng = generator(algorithm.seed, round, "work", client.name)
    return algorithm.local.done(client.name, len(client.train), rng)


def _terms(algorithm: Algorithm, sent: Broadcast, client: Client, memory: Vector | None) -> Terms:
    local, correction = algorithm.local, algorithm.correction
    return Terms(
        steps=steps_of(algorithm, sent.round, client),
        factor=local.schedule.factor(sent.round),
        linear=None if memory is None else correction.linear(sent.extra, memory),
        proximal=correction.proximal,
    )


def _learnt(
    algorithm: Algorithm,
    trainable: int,
    sent: Broadcast,
    client: Client,
    memory: Vector | None,
    terms: Terms,
    fitted: Fitted,
) -> tuple[Update, Vector | None]:
    local, rows = algorithm.local, len(client.train)
    steps, delta, extras = terms.steps or local.asked(rows), fitted.params - sent.params, dict[str, Vector]()
    if memory is not None:
        distance = local.distance(steps, terms.factor)
        memory, extras = algorithm.correction.learn(sent.extra, memory, delta[:trainable], distance)
    worth = local.worth(steps, terms.factor, terms.proximal)
    weight = algorithm.rule.weigh(client.name, client.card, rows)
    return Update(client.name, delta, weight, fitted.metrics, extras, worth), memory


def abandon(state: ServerState) -> ServerState:
    """The state after a round in which too few clients were there to train."""
    return state._replace(round=state.round + 1)


def guide(algorithm: Algorithm, engine: Engine, sent: Broadcast, root: Split) -> Vector:
    """What the server's own training on its root rows makes of the model: a rule may go by it."""
    rng = generator(algorithm.seed, sent.round, "root")
    terms = Terms(factor=algorithm.local.schedule.factor(sent.round))
    with stage(sent.round, "training on root rows"):
        return engine.fit(sent.params, root, algorithm.local, rng, terms).params - sent.params


def server_half(
    algorithm: Algorithm,
    state: ServerState,
    updates: Sequence[Update],
    root: Vector | None = None,
    known: Vector | None = None,
) -> tuple[ServerState, Metrics]:
    """All of the server's work in one round: decode, aggregate, finish, step. ``root`` is what ``guide`` gave.

    ``known`` is the aggregate of a round that is computed again, where clients cannot send once more what they sent.

    The order of ``updates`` does not matter. Moving statistics go to the rule's aggregate: no transform and no
    server optimizer touches them.

    Raises:
        ValueError: the rule got too few updates.
        TrainingError: there are too few updates for the noise that is claimed, or the new model is not finite.
    """
    done, split = state.round + 1, state.trainable
    _require_survivors(algorithm, done, len(updates))
    ordered = sorted(updates, key=lambda update: update.client)
    guided = state.rule if root is None else algorithm.rule.guided(state.rule, root)
    rule_state, aggregate, metrics = algorithm.rule.next(
        guided, (decode(algorithm, done, split, update) for update in ordered)
    )
    aggregate = aggregate if known is None else known
    if aggregate.shape != state.params.shape:
        raise TrainingError(f"round {done}: the rule gave shape {aggregate.shape}, expected {state.params.shape}")
    finished = finish(algorithm, done, state.transforms, aggregate[:split], ordered)
    result = finished.result.astype(np.float32, copy=False)
    corrected = algorithm.correction.finish(state.correction, result, ordered)
    stepped = algorithm.server.next(done, state.server, state.params[:split], corrected.result)
    params = np.concatenate([stepped.result, state.params[split:] + aggregate[split:].astype(np.float32)])
    if not np.isfinite(params).all():
        raise TrainingError(
            f"round {done}: the aggregate of {len(ordered)} updates is not finite; clip, or train slower"
        )
    norm = {"aggregate_norm": l2_norm(result)}
    kept = aggregate if algorithm.keeps_aggregate else None
    next_state = ServerState(done, params, split, rule_state, stepped.state, corrected.state, finished.state, kept)
    return next_state, metrics | finished.metrics | corrected.metrics | stepped.metrics | norm


def _require_survivors(algorithm: Algorithm, round: int, found: int) -> None:
    """Before anything is summed: fewer clients carry less noise than was paid for."""
    if found < algorithm.survivors:
        raise TrainingError(
            f"round {round}: {found} updates carry too little noise, it is sized for at least {algorithm.survivors}; "
            "nothing is released. Lower least of the transform that adds it, or let more clients take part"
        )
