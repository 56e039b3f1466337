"""What an aggregation rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
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

    def init(self, size: int) -> Any:
        """The state before round 1, for updates of ``size`` parameters."""
        return None

    @abstractmethod
    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        """The aggregate, shape (parameters,).

        Raises:
            ValueError: there are too few updates.
        """
