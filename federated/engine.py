"""What trains a model, seen from the method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from federated.component import Metrics, Vector
from federated.data import Client, Split
from federated.local_training import LocalTraining


class Fitted(NamedTuple):
    """A locally trained model, shape (parameters,), and what training says of itself."""

    params: Vector
    metrics: Metrics


class Terms(NamedTuple):
    """The terms on which one client trains in one round.

    It takes ``steps`` (None: what the plan asks of all) at ``factor`` times the optimizer's learning rate. Every
    gradient gets ``linear``, shape (trainable,), and ``proximal`` times the way from the global model.
    """

    steps: int | None = None
    factor: float = 1.0
    linear: Vector | None = None
    proximal: float = 0.0


AS_ASKED = Terms()
"""What the plan asks, and nothing more."""


Scores = dict[str, NDArray[np.float32]]
"""Named numbers an example, each of shape (rows,): ``loss``, and ``accuracy`` or ``mae``."""

SMALLER_IS_BETTER = {"loss": True, "mae": True, "accuracy": False}
"""Which way each score improves."""


class Engine(Protocol):
    """Trains and scores one architecture, whose weights are one flat vector.

    The first ``trainable`` of ``size`` entries are trainable weights; the rest are moving statistics.
    """

    @property
    def size(self) -> int: ...

    @property
    def trainable(self) -> int: ...

    @property
    def layers(self) -> tuple[int, ...]:
        """How many trainable weights each layer has, in order."""

    @property
    def compilation(self) -> str:
        """How local training is compiled, in a word: a run records it, because it decides the last bits."""

    @property
    def device(self) -> str:
        """What type of device trains, in a word: a run records it, because it decides the last bits."""

    def init(self, seed: int) -> Vector:
        """Initial weights, shape (size,): a function of ``seed`` alone."""

    def fit(
        self, params: Vector, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms = AS_ASKED
    ) -> Fitted:
        """``params`` after local training on ``data``: a function of its arguments alone."""

    def fit_cohort(
        self,
        params: Vector,
        clients: Sequence[Client],
        work: LocalTraining,
        rngs: Sequence[np.random.Generator],
        terms: Sequence[Terms],
    ) -> Iterator[Fitted]:
        """``fit`` for each client from the same ``params``, in order; bit for bit the same as ``fit``."""

    def score(self, params: Vector, data: Split) -> Scores:
        """How well ``params`` do on each example."""
