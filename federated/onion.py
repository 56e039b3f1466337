"""An update's way through the transforms: inwards on the client, outwards on the server.

Moving statistics are no transform's business: they travel beside the trainable weights, as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from federated.algorithm import Algorithm
from federated.component import Metrics, Step, Vector
from federated.errors import stage
from federated.randomness import generator
from federated.transforms import Layers, Transform
from federated.updates import Update

Memory = dict[str, Vector]
"""What a client keeps from round to round, by what it is for, each of shape (trainable,): never sent."""

_STATISTICS = "statistics"


class Trained(NamedTuple):
    """A client's update, and its memory afterwards."""

    update: Update
    memory: Memory


def encode(algorithm: Algorithm, round: int, layers: Layers, trained: Trained) -> Trained:
    """The update as it leaves the client: every transform's client side, in order.

    Raises:
        StageError: a transform failed; it says which, and whose update it was.
    """
    update, memory = trained
    whole, size = update.delta, sum(layers)
    encoded = replace(update, delta=whole[:size])
    for position in range(len(algorithm.transforms)):
        with stage(round, f"transforms.{position}", update.client):
            encoded, memory = _through(algorithm, round, position, layers, Trained(encoded, memory))
    if whole.size > size:
        encoded = replace(encoded, extras=encoded.extras | {_STATISTICS: whole[size:]})
    return Trained(encoded, memory)


def _through(algorithm: Algorithm, round: int, position: int, layers: Layers, trained: Trained) -> Trained:
    layer, (update, memory) = algorithm.transforms[position], trained
    if layer.noised_by == "clients":
        update = _bare(update)
    if not layer.feeds_back:
        rng = _rng(algorithm, round, position, update.client)
        return Trained(_counted(layer, update, layer.encode(update, layers, rng)), memory)
    kept = f"transforms.{position}"
    with np.errstate(invalid="ignore"):  # an update that is not finite is left out, and its memory with it
        owed = replace(update, delta=update.delta + memory.get(kept, np.float32(0)))
        sent = layer.encode(owed, layers, _rng(algorithm, round, position, update.client))
        seen = layer.decode(sent, sum(layers), _rng(algorithm, round, position, update.client))
        return Trained(_counted(layer, owed, sent), memory | {kept: owed.delta - seen.delta})


def _bare(update: Update) -> Update:
    """Without all that noise does not hide: how many rows a client has, how it trained, and how well."""
    return Update(update.client, update.delta, 1.0)


def _counted(layer: Transform, before: Update, after: Update) -> Update:
    """With the bytes before and after a transform that saves some."""
    if layer.makes == "weights":
        return after
    kind: str = layer.kind  # type: ignore[attr-defined]
    bytes_ = {f"{kind}_bytes_before": float(before.nbytes), f"{kind}_bytes_after": float(after.nbytes)}
    return replace(after, metrics=after.metrics | bytes_)


def decode(algorithm: Algorithm, round: int, trainable: int, update: Update) -> Update:
    """The update as the rule should see it: shape (parameters,)."""
    extras = dict(update.extras)
    statistics = extras.pop(_STATISTICS, None)
    decoded = replace(update, extras=extras)
    for position, layer in _reverse(algorithm):
        decoded = layer.decode(decoded, trainable, _rng(algorithm, round, position, update.client))
    if statistics is None:
        return decoded
    return replace(decoded, delta=np.concatenate([decoded.delta, statistics]))


def finish(
    algorithm: Algorithm, round: int, states: Sequence[Any], delta: Vector, updates: Sequence[Update]
) -> Step[tuple[Any, ...], Vector]:
    """The server's side of every transform, once a round, in reverse."""
    after, metrics = list(states), Metrics()
    share = math.nan if algorithm.rule.share is None else algorithm.rule.share
    for position, layer in _reverse(algorithm):
        rng = generator(algorithm.seed, round, f"finish-{position}")
        finished = layer.finish(after[position], delta, updates, rng, share)
        after[position], delta = finished.state, finished.result
        metrics |= finished.metrics
    return Step(tuple(after), delta, metrics)


def _reverse(algorithm: Algorithm) -> list[tuple[int, Any]]:
    return list(enumerate(algorithm.transforms))[::-1]


def _rng(algorithm: Algorithm, round: int, position: int, client: str) -> np.random.Generator:
    """The same on both sides."""
    return generator(algorithm.seed, round, f"encode-{position}", client)
