"""A bar in the Prefect UI that moves while a training runs."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context

from prefect.artifacts import create_progress_artifact, update_progress_artifact

_SECONDS_BETWEEN = 2.0


class ProgressArtifact:
    """Percent of a plan's rounds; sent at most every two seconds, because each update is a request.

    Sent beside the rounds: a server that is away keeps a request waiting for more than a minute.
    """

    def __init__(self, plan: str, rounds: int) -> None:
        self._rounds, self._sent = rounds, time.monotonic()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="progress")
        self._sending: Future[None] | None = None
        self._id = create_progress_artifact(progress=0.0, key=f"{plan}-progress", description=f"{plan}: rounds done")

    def done(self, rounds: int) -> None:
        """``rounds`` rounds are over."""
        is_free = self._sending is None or self._sending.done()
        if is_free and time.monotonic() - self._sent >= _SECONDS_BETWEEN:
            self._send(100.0 * rounds / self._rounds)

    def finish(self) -> None:
        """No round will follow."""
        wait([self._send(100.0)], timeout=_SECONDS_BETWEEN)
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _send(self, percent: float) -> Future[None]:
        self._sent = time.monotonic()
        self._sending = self._sender.submit(copy_context().run, self._update, percent)
        return self._sending

    def _update(self, percent: float) -> None:
        with contextlib.suppress(Exception):  # it is no reason to stop
            update_progress_artifact(self._id, percent)
