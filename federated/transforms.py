"""What happens to an update on its way to the server, as the layers of an onion.

A transform owns both sides: ``encode`` on the client, ``decode`` on the server for each update, ``finish``
on the server once for the aggregate. The server runs the list in reverse. Transforms see trainable weights only.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from federated.component import ByKind, Component, Step, Vector
from federated.updates import Update, l2_norm


class Transform(Component, ABC):
    """One layer of the onion; each hook does nothing unless a member says otherwise."""

    def init(self, size: int) -> Any:
        """The server's state before round 1, for a vector of ``size`` trainable weights."""
        return None

    def encode(self, update: Update, rng: np.random.Generator) -> Update:
        """On the client: what leaves it instead of ``update``."""
        return update

    def decode(self, update: Update) -> Update:
        """On the server: one client's update as the rule should see it."""
        return update

    def finish(
        self, state: Any, aggregate: Vector, cohort: Sequence[str], rng: np.random.Generator
    ) -> Step[Any, Vector]:
        """On the server, once a round: the aggregate as the server optimizer should see it."""
        return Step(state, aggregate, {})


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

    def encode(self, update: Update, rng: np.random.Generator) -> Update:
        norm = l2_norm(update.delta)
        clipped = bool(np.isfinite(norm)) and norm > self.norm
        delta = update.delta * np.float32(self.norm / norm) if clipped else update.delta
        metrics = {"update_norm": norm, "clipped": float(clipped)}
        return replace(update, delta=delta, metrics=update.metrics | metrics)


class ClipElements(Transform):
    """Limits each coordinate of an update to [-``threshold``, ``threshold``], as textbooks write clipping.

    Guarantees: no coordinate is larger in size than ``threshold``; NaN and infinity stay, and the round
    leaves the update out.
    """

    kind: Literal["clip_elements"] = "clip_elements"
    threshold: float = Field(gt=0, description="largest size of one coordinate")

    def encode(self, update: Update, rng: np.random.Generator) -> Update:
        limit = np.float32(self.threshold)
        delta = np.where(np.isfinite(update.delta), np.clip(update.delta, -limit, limit), update.delta)
        share = float(np.mean(np.abs(update.delta) > self.threshold)) if delta.size else 0.0
        return replace(update, delta=delta, metrics=update.metrics | {"clipped_elements": share})


AnyTransform = Annotated[Clip | ClipElements, Field(discriminator="kind"), ByKind()]
