"""MLflow's part beside the rounds: opened while the first trains, registered in order, closed honestly."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial

from prefect import runtime
from prefect.futures import PrefectFuture

from tasks.journal import Journal
from tasks.records import Committed
from tasks.registering import Registrar, open_tracking, register_model
from tasks.tracking import RunStatus, patiently
from tasks.training import At, Sealed, Training
from tasks.watching import watcher

_MOST_WAITING = 100  # rounds, on disk, while MLflow is away


class Registration:
    """Registers committed rounds, each after the one before it, none on the path of the rounds."""

    def __init__(self, training: Training, journal: Journal) -> None:
        self._plan, self._journal, self._keep = training.plan.name, journal, training.plan.keep_checkpoints
        self._cancelled = training.cancelled
        flow_run_id = str(runtime.flow_run.id)
        start, *rounds = journal.committed
        signer = Sealed(journal.signer)
        self._opened = open_tracking.submit(training, journal.run_key, flow_run_id, signer, Sealed(start))
        self._waiting: deque[Committed] = deque(rounds)
        self._pending: _Pending | None = None
        self._version = ""

    @property
    def registrar(self) -> Sealed[Registrar]:
        """The open run; waits for it.

        Raises:
            TrackingError: it could not be opened.
        """
        return self._opened.result()

    def submit(self, committed: Committed, before: Sequence[Committed] = ()) -> None:
        """Registers a round, and the interim rounds before it, in the background. Waits only when too many do.

        Raises:
            TrackingError: a round before it could not be registered.
        """
        self._waiting.extend([*before, committed])
        self._advance()
        while len(self._waiting) > _MOST_WAITING:
            self._finish_pending()
            self._advance()

    def settle(self) -> str:
        """Waits for all rounds; gives the latest version.

        Raises:
            TrackingError: one could not be registered.
        """
        while self._waiting or self._pending is not None:
            self._finish_pending()
            self._advance()
        return self._version

    def finish(self) -> None:
        """Ends the MLflow run as FINISHED.

        Raises:
            TrackingError: MLflow refused, or stayed away for too long.
        """
        patiently(partial(self.close, "FINISHED"), self._cancelled)

    def close(self, status: RunStatus) -> None:
        """Ends the MLflow run."""
        registrar = self.registrar.value
        registrar.versions.close()
        registrar.run.close(status)

    def _advance(self) -> None:
        """Takes up what waits, all of it at once, where nothing is under way."""
        if self._pending is not None and self._pending.done.is_set():
            self._finish_pending()
        if self._pending is None and self._waiting:
            rounds = list(self._waiting)
            self._waiting.clear()
            at = At(self._plan, rounds[-1].round)
            future = register_model.submit(self.registrar, at, Sealed(self._journal), Sealed(rounds))
            self._pending = _Pending(at.round, future)

    def _finish_pending(self) -> None:
        if self._pending is None:
            return
        try:
            self._version = self._pending.future.result()
        except Exception:
            self._pending = None
            self._waiting.clear()  # no round is registered before those ahead of it
            raise
        self._journal.prune(self._keep, self._pending.round)
        self._pending = None


class _Pending:
    """A registration under way."""

    def __init__(self, round: int, future: PrefectFuture[str]) -> None:
        self.round, self.future, self.done = round, future, threading.Event()
        future.add_done_callback(lambda _: self.done.set())


@contextlib.contextmanager
def registration(training: Training, journal: Journal) -> Iterator[Registration]:
    """A registration that ends its MLflow run: FINISHED, FAILED after an error, or KILLED after a signal."""
    registering = Registration(training, journal)
    try:
        yield registering
        registering.finish()
    except BaseException as error:
        training.cancelled.set()
        if isinstance(error, KeyboardInterrupt):
            watcher().stops()
        # The first error is the one to report: what follows from it is not.
        with contextlib.suppress(Exception):
            registering.settle()
        with contextlib.suppress(Exception):
            registering.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
