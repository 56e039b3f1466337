"""Transforms that send some coordinates of an update only."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import Vector
from federated.transforms.transform import Layers, Makes, Transform
from federated.updates import Update

_PLACES = "places"


class TopK(Transform):
    """The ``share`` of coordinates that are largest in size, each with its place (Aji, Heafield 2017).

    A number and a place of 4 bytes each. With ``error_feedback`` a client keeps what it did not send and adds it to its
    next update (Stich et al. 2018, algorithm 1): without it, small coordinates may never arrive. Of coordinates of one
    size, the first go.
    """

    kind: Literal["top_k"] = "top_k"
    share: float = Field(gt=0, le=1, description="of coordinates that are sent")
    error_feedback: bool = True

    @property
    def makes(self) -> Makes:
        return "fewer"

    @property
    def feeds_back(self) -> bool:
        return self.error_feedback

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        places = _largest(update.delta, _count(self.share, update.delta.size))
        return replace(update, delta=update.delta[places], extras=update.extras | {_PLACES: places})

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        extras = dict(update.extras)
        return replace(update, delta=_spread(update.delta, extras.pop(_PLACES), size), extras=extras)


class RandomK(Transform):
    """A ``share`` of coordinates drawn by chance, made larger by 1/``share``: right on average (Konečný et al. 2016).

    Both sides draw the same places, so that none are sent.
    """

    kind: Literal["random_k"] = "random_k"
    share: float = Field(gt=0, le=1, description="of coordinates that are sent")

    @property
    def makes(self) -> Makes:
        return "fewer"

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        places = self._places(update.delta.size, rng)
        with np.errstate(over="ignore"):
            sent = update.delta[places] * np.float32(update.delta.size / max(len(places), 1))
        if not np.isfinite(update.delta).all():  # or chance could hide it
            sent = np.full_like(sent, np.nan)
        return replace(update, delta=sent)

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        return replace(update, delta=_spread(update.delta, self._places(size, rng), size))

    def _places(self, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.sort(rng.choice(size, _count(self.share, size), replace=False, shuffle=False))


def _count(share: float, size: int) -> int:
    return min(max(round(share * size), 1), size)


def _largest(vector: Vector, count: int) -> NDArray[np.uint32]:
    """Where the ``count`` entries of the largest size stand, in order; NaN is larger than all."""
    sizes = np.where(np.isnan(vector), np.float32(np.inf), np.abs(vector))
    bound = np.partition(sizes, sizes.size - count)[sizes.size - count] if count else np.float32(np.inf)
    above, equal = np.flatnonzero(sizes > bound), np.flatnonzero(sizes == bound)
    return np.sort(np.concatenate([above, equal[: count - len(above)]])).astype(np.uint32)


def _spread(values: Vector, places: NDArray[np.integer], size: int) -> Vector:
    spread = np.zeros(size, np.float32)
    spread[places] = values
    return spread
