"""What an aggregation rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from federated.component import Component, Step, Vector
from federated.updates import Update


class Rule(Component, ABC):
    """An aggregation rule.

    ``additive`` rules are sums: they hold one vector however many clients there are, and work on masked or
    encrypted updates. The others hold the cohort's matrix.
    """

    @property
    def additive(self) -> bool:
        """Whether it is a sum."""
        return False

    @property
    def averages(self) -> bool:
        """Whether every entry of the result lies among those of the updates: moving statistics need that."""
        return True

    @property
    def normalises_steps(self) -> bool:
        """Whether it divides by ``local_steps``, which are known for gradient descent only."""
        return False

    @property
    def share(self) -> float | None:
        """The most that one update, times its weight, counts in the aggregate whoever else is there; None: any part.

        Noise is sized by it.
        """
        return None

    @property
    def robust(self) -> bool:
        """Whether a liar among the clients cannot drag the result away: self-reported weights then count nothing."""
        return False

    @property
    def equal(self) -> bool:
        """Whether it goes by updates' vectors alone: not by the weight, the steps or the loss that comes with them."""
        return self.robust

    @property
    def least(self) -> int:
        """The fewest updates that it can work with."""
        return 1

    @property
    def needs_loss(self) -> bool:
        """Whether updates must carry ``loss``."""
        return False

    @property
    def needs_root(self) -> bool:
        """Whether the server trains on rows of its own, its root data set, and tells the rule by ``guided``."""
        return False

    @property
    def named(self) -> frozenset[str]:
        """The clients that it names."""
        return frozenset()

    def weigh(self, client: str, card: Mapping[str, str | float], examples: int) -> float:
        """What an update of ``client`` counts: its ``weight``. ``card`` is what the client says of itself.

        Raises:
            DataError: the card does not say what the rule weighs by.
        """
        return float(examples)

    def init(self, size: int) -> Any:
        """The state before round 1, for updates of ``size`` parameters."""
        return None

    def guided(self, state: Any, root: Vector) -> Any:
        """The state, where the server's own training on its root rows has given ``root`` in this round."""
        return state

    @abstractmethod
    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        """The aggregate, shape (parameters,), float32; or float64, for noise.

        Raises:
            ValueError: there are too few updates.
        """
