"""Seconds by stage."""

from __future__ import annotations

import time

from federated.component import Metrics


class Stopwatch:
    """Starts when it is made; each lap names the stage that has just ended."""

    def __init__(self) -> None:
        self._began = self._last = time.perf_counter()
        self._laps: Metrics = {}

    def lap(self, stage: str) -> None:
        """``stage`` is over."""
        now = time.perf_counter()
        self._laps[f"seconds_{stage}"] = now - self._last
        self._last = now

    def seconds(self) -> Metrics:
        """Every stage, and their sum as ``seconds_round``."""
        return self._laps | {"seconds_round": self._last - self._began}
