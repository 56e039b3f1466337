"""A bar in the Prefect UI that moves while a training runs."""

from __future__ import annotations

import time

from prefect.artifacts import create_progress_artifact, update_progress_artifact

_SECONDS_BETWEEN = 2.0


class ProgressArtifact:
    """Percent of a plan's rounds; sent at most every two seconds, because each update is a request."""

    def __init__(self, plan: str, rounds: int) -> None:
        self._rounds = rounds
        self._sent, self._shown = time.monotonic(), True
        self._id = create_progress_artifact(progress=0.0, key=f"{plan}-progress", description=f"{plan}: rounds done")

    def done(self, rounds: int) -> None:
        """``rounds`` rounds are over."""
        if time.monotonic() - self._sent >= _SECONDS_BETWEEN:
            self._send(100.0 * rounds / self._rounds)

    def finish(self) -> None:
        """No round will follow."""
        self._send(100.0)

    def _send(self, percent: float) -> None:
        self._sent = time.monotonic()
        if self._shown:
            try:
                update_progress_artifact(self._id, percent)
            except Exception:  # a server that is away is no reason to stop, nor to wait for it at every update
                self._shown = False
