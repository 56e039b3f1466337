"""When a training ends before its last round, and why it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from federated.component import Component, Metrics
from federated.engine import SMALLER_IS_BETTER

StopReason = Literal["rounds", "target", "patience", "minutes", "privacy budget"]


class Stop(Component):
    """Ends a training early: at a target, when patience runs out, or at a time limit; the first to come.

    ``metric`` is measured on the server's validation rows after every round that is evaluated; target and patience
    look at no others. ``patience`` of these without a new best (by more than ``min_delta``) end the training.
    ``minutes`` is wall-clock time, looked at after each round.
    """

    metric: Literal["accuracy", "loss", "mae"] = "loss"
    at_least: float | None = None
    at_most: float | None = None
    patience: int | None = Field(default=None, ge=1)
    min_delta: float = Field(default=0.0, ge=0)
    minutes: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _aim_the_right_way(self) -> Stop:
        smaller = SMALLER_IS_BETTER[self.metric]
        if smaller and self.at_least is not None:
            raise ValueError(f"smaller is better for {self.metric}: use at_most, not at_least")
        if not smaller and self.at_most is not None:
            raise ValueError(f"larger is better for {self.metric}: use at_least, not at_most")
        return self

    @property
    def measures(self) -> bool:
        """Whether it looks at the metric, not at the clock alone."""
        return (self.at_least, self.at_most, self.patience) != (None, None, None)

    def reason(self, history: Sequence[Metrics], seconds: float) -> StopReason | None:
        """Why to stop after these rounds (oldest first) and this much time; None to go on."""
        if self.measures and history and self.metric in history[-1]:
            found = self._reason([self._badness(metrics) for metrics in history if self.metric in metrics])
            if found is not None:
                return found
        return "minutes" if self.minutes is not None and seconds >= 60 * self.minutes else None

    def _reason(self, values: Sequence[float]) -> StopReason | None:
        target = self.at_most if self.at_least is None else -self.at_least
        if target is not None and values[-1] <= target:
            return "target"
        return "patience" if self.patience is not None and self._stale(values) >= self.patience else None

    def _badness(self, metrics: Metrics) -> float:
        value = metrics[self.metric]
        return value if SMALLER_IS_BETTER[self.metric] else -value

    def _stale(self, values: Sequence[float]) -> int:
        """Rounds since the best one, which the next best must beat by more than ``min_delta``."""
        best, stale = float("inf"), 0
        for value in values:
            if value < best - self.min_delta:
                best, stale = value, 0
            else:
                stale += 1
        return stale
