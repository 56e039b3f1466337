"""What happens to an update on its way to the server, as the layers of an onion.

A transform owns both sides: ``encode`` on the client, ``decode`` on the server for each update, ``finish``
on the server once for the aggregate. The server runs the list in reverse. Transforms see trainable weights only.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from federated.component import Component, Step, Vector
from federated.privacy.releases import Release
from federated.updates import Update

Makes = Literal["weights", "fewer", "codes"]
"""What leaves a transform: a number a weight, fewer numbers, or codes in place of numbers."""

NoisedBy = Literal["nobody", "server", "clients"]
"""Who adds noise: the server to what it has aggregated, or every client to what it sends."""

Hides = Literal["sum", "message"]
"""What noise makes private: no more than a sum of messages, or each message by itself."""

Layers = tuple[int, ...]
"""How many trainable weights each layer of the model has, in order."""


class Sized(NamedTuple):
    """The trainings that noise is made for: at most so many rounds, and so many of them with the same client."""

    rounds: int
    participations: int


class Transform(Component, ABC):
    """One layer of the onion; each hook does nothing unless a member says otherwise.

    ``rng`` is the same stream for an update on both sides.
    """

    @property
    def makes(self) -> Makes:
        """What leaves it."""
        return "weights"

    @property
    def feeds_back(self) -> bool:
        """Whether what it loses of an update is kept on the client, and added to the next one."""
        return False

    @property
    def secret(self) -> bool:
        """Whether it draws what nobody can draw again."""
        return False

    @property
    def noised_by(self) -> NoisedBy:
        """Who adds its noise. What clients add, the server sees: who takes part is then no secret."""
        return "nobody"

    @property
    def hides(self) -> Hides:
        """What its noise hides, where it adds any."""
        return "sum"

    @property
    def counts_clients(self) -> bool:
        """Whether it goes by a share of clients: then each must weigh 1."""
        return False

    @property
    def survivors(self) -> int:
        """The fewest updates that together carry the noise that is claimed."""
        return 0

    @property
    def sized(self) -> Sized | None:
        """The trainings that its noise is for, where that of all rounds is one release; None: each round is one."""
        return None

    def release(self, sampling_rate: float) -> Release | None:
        """What a round costs of a privacy budget, its clients drawn at this rate; None where it adds no noise.

        Where it is ``sized``, what a training costs.
        """
        return None

    def init(self, size: int) -> Any:
        """The server's state before round 1, for a vector of ``size`` trainable weights."""
        return None

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        """On the client: what leaves it instead of ``update``."""
        return update

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        """On the server: one client's update of ``size`` trainable weights, as the rule should see it."""
        return update

    def finish(
        self, state: Any, aggregate: Vector, updates: Sequence[Update], rng: np.random.Generator, share: float
    ) -> Step[Any, Vector]:
        """On the server, once a round: the aggregate of ``updates``, as they came, as the optimizer should see it.

        One client's update times ``share`` is the most of it that stands in the aggregate; NaN where no rule says.
        """
        return Step(state, aggregate, {})

    def check(self, share: float) -> None:
        """That it can do with a rule of this ``share``.

        Raises:
            ValueError: it cannot; it says what would do.
        """

    def now(self, state: Any) -> Transform:
        """What clients apply in the round after ``state``: itself, unless that says otherwise."""
        return self

    def keyed(self, key: bytes) -> Transform:
        """What draws its secrets from ``key``, 32 bytes that nobody but the server has: itself, unless it needs one."""
        return self

    def again(self, state: Any) -> Transform:
        """What does once more the round that left ``state``: itself, unless it draws what cannot be drawn again."""
        return self
