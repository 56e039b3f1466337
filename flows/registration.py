"""MLflow's part beside the rounds: opened while the first trains, one registration in flight, closed honestly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect import runtime
from prefect.futures import PrefectFuture

from federated.component import Vector
from flows.watching import watcher
from tasks.registering import Registrar, open_tracking, register_model
from tasks.tracking import RunStatus
from tasks.training import At, RoundReport, Sealed, Training


class Registration:
    """The order of registrations: each after the one before it, none on the path of the rounds."""

    def __init__(self, training: Training) -> None:
        flow_run_id = str(runtime.flow_run.id)
        self._opened = open_tracking.submit(training, training.plan.name, flow_run_id)
        self._pending: PrefectFuture[str] | None = None
        self._version = ""

    @property
    def registrar(self) -> Sealed[Registrar]:
        """The open run; waits for it.

        Raises:
            TrackingError: it could not be opened.
        """
        return self._opened.result()

    def submit(self, at: At, params: Vector, report: RoundReport) -> None:
        """Registers a round in the background, once the round before is registered.

        Raises:
            TrackingError: the round before could not be registered.
        """
        self.settle()
        self._pending = register_model.submit(self.registrar, at, params, Sealed(report))

    def settle(self) -> str:
        """Waits for what is in flight; gives the latest version.

        Raises:
            TrackingError: it could not be registered.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._version = pending.result()
        return self._version

    def close(self, status: RunStatus) -> None:
        """Ends the MLflow run."""
        registrar = self.registrar.value
        registrar.versions.close()
        registrar.run.close(status)


@contextlib.contextmanager
def registration(training: Training) -> Iterator[Registration]:
    """A registration that ends its MLflow run: FINISHED, FAILED after an error, or KILLED after a signal."""
    registering = Registration(training)
    try:
        yield registering
        registering.close("FINISHED")
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
