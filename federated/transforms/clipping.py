"""Transforms that limit what one client can do to the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from federated.component import Vector
from federated.transforms.transform import Layers, Transform
from federated.updates import Update, l2_norm


class Clip(Transform):
    """Scales an update down to an L2 norm of at most ``norm`` (Geyer et al. 2017; McMahan et al. 2018).

    Guarantees: the result's norm is at most ``norm``, up to float32 rounding; its direction is unchanged.

    ===================  ==========================
    update               result
    ===================  ==========================
    norm <= ``norm``     itself, bit for bit
    zero                 zero
    NaN or infinite      itself: the round leaves it out
    ===================  ==========================
    """

    kind: Literal["clip"] = "clip"
    norm: float = Field(gt=0, description="largest L2 norm of an update")

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        delta, norm = _scaled(update.delta, self.norm)
        metrics = {"update_norm": norm, "clipped": float(delta is not update.delta)}
        return replace(update, delta=delta, metrics=update.metrics | metrics)


class ClipLayers(Transform):
    """Scales every layer of an update down to an L2 norm of at most ``norm`` (McMahan et al. 2018, section 3.2).

    A layer is what Keras calls one: a kernel and its bias count together. The norm of the whole update is then at most
    ``norm`` · √layers. Edge cases are those of ``clip``, layer by layer.
    """

    kind: Literal["clip_layers"] = "clip_layers"
    norm: float = Field(gt=0, description="largest L2 norm of one layer of an update")

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        pieces = np.split(update.delta, np.cumsum(layers)[:-1])
        scaled = [_scaled(piece, self.norm)[0] for piece in pieces]
        clipped = sum(after is not before for after, before in zip(scaled, pieces, strict=True))
        metrics = {"update_norm": l2_norm(update.delta), "clipped_layers": clipped / len(layers)}
        return replace(update, delta=np.concatenate(scaled), metrics=update.metrics | metrics)


class ClipElements(Transform):
    """Limits each coordinate of an update to [-``threshold``, ``threshold``], as textbooks write clipping.

    Guarantees: no coordinate is larger in size than ``threshold``; NaN and infinity stay, and the round
    leaves the update out.
    """

    kind: Literal["clip_elements"] = "clip_elements"
    threshold: float = Field(gt=0, description="largest size of one coordinate")

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        limit = np.float32(self.threshold)
        delta = np.where(np.isfinite(update.delta), np.clip(update.delta, -limit, limit), update.delta)
        share = float(np.mean(np.abs(update.delta) > self.threshold)) if delta.size else 0.0
        return replace(update, delta=delta, metrics=update.metrics | {"clipped_elements": share})


def _scaled(vector: Vector, limit: float) -> tuple[Vector, float]:
    """The vector with a norm of at most ``limit``, or itself; and its norm before."""
    norm = l2_norm(vector)
    if not np.isfinite(norm) or norm <= limit:
        return vector, norm
    factor = limit / norm
    if factor >= np.finfo(np.float32).tiny:
        return vector * np.float32(factor), norm
    return (vector * np.float64(factor)).astype(np.float32), norm  # float32 has too few digits of so small a factor
