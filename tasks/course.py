"""Where a training stands: what it goes on from, and what it has committed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from filelock import FileLock, Timeout

from configs import environment
from federated.errors import InputError
from federated.rounds import ServerState, initial_state
from tasks.identity import Identity, digest_of_code, identify_training
from tasks.journal import Committed, Journal, require_run_key
from tasks.signing import signer
from tasks.starting import Start, starting_point
from tasks.summary import Summary
from tasks.training import RoundReport, Training


class Course:
    """The state after the latest round, and the reports of all rounds, from every attempt at the training."""

    def __init__(self, training: Training, journal: Journal, identity: Identity, started: float) -> None:
        self._journal, self._began = journal, started
        self._always = {"plan_sha256": training.plan.digest(), "code_sha256": digest_of_code(identity)}
        self._once: dict[str, Any] = {"identity": identity}
        self.state = initial_state(training.plan.algorithm, training.engine, len(training.federation.clients))
        self.reports: list[RoundReport] = []
        self._latest: Committed | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock time of all attempts, as far as they committed something."""
        return time.monotonic() - self._began

    @property
    def milliseconds(self) -> int:
        """When the latest round was committed, in milliseconds since 1970."""
        return 0 if self._latest is None else int(self._latest.record["milliseconds"])

    def begin(self, start: Start | None) -> None:
        """Commits the state before round 1."""
        state = self.state if start is None else self.state._replace(params=start.params)
        self._record(state, {"start": start and start.version})

    def go_on(self, training: Training, accepted: list[str]) -> None:
        """Takes up the state after the last round that is whole."""
        self.state = self._journal.resume(self.state)
        start, *rounds = self._journal.committed
        self.reports = [RoundReport.from_json(done.round, done.record["report"]) for done in rounds]
        self._latest = (rounds or [start])[-1]
        self._began -= self._latest.record["seconds"]
        self._once = {**self._once, "accepted": accepted} if accepted else {}
        if self.reports:
            per_client = training.client_tests.evaluate(training.engine, self.state.params)
            self.reports[-1] = replace(self.reports[-1], per_client=per_client)

    def commit(self, state: ServerState, report: RoundReport) -> Committed:
        """Makes a round the latest. One that was recorded before keeps the numbers of its record.

        Raises:
            TrainingError: it was recorded before with another state.
            TrackingError: the store refused.
        """
        committed = self._record(state, {"report": report.as_json()})
        recorded = RoundReport.from_json(report.round, committed.record["report"])
        if self.reports:  # ten thousand clients are megabytes a round
            self.reports[-1] = replace(self.reports[-1], per_client={})
        self.reports.append(replace(recorded, per_client=report.per_client))
        return committed

    def finish(self, summary: Summary) -> None:
        """The training is over, and everything is registered."""
        self._journal.finish(summary.model_dump_json().encode())

    def _record(self, state: ServerState, said: dict[str, Any]) -> Committed:
        when = {"seconds": self.seconds, "milliseconds": time.time_ns() // 1_000_000}
        self._latest = self._journal.commit(state, {**self._always, **self._once, **when, **said})
        # A round that was recorded before keeps its record: what is to be said waits for the next new one.
        self._once = {name: told for name, told in self._once.items() if self._latest.record.get(name) != told}
        self.state = state
        return self._latest


@contextlib.contextmanager
def opened(plan: str, run_key: str) -> Iterator[Journal]:
    """The journal of a training, which no other process on this machine has open.

    Raises:
        InputError: another has, or the run key is unusable.
        TrackingError: the store cannot be reached.
    """
    require_run_key(run_key)
    folder = environment.home() / "locks" / plan
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / f"{run_key}.lock").acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"--run-key {run_key}: another training is at it; wait for its end, or take another key"
        ) from error
    with lock:
        yield Journal(environment.checkpoints(), plan, run_key, signer())


def begin_or_go_on(training: Training, journal: Journal, accept_change: bool, started: float) -> Course | Summary:
    """What to go on from; the summary of a training that is over.

    Raises:
        PlanError: the plan, the code or the data have changed, and ``accept_change`` is false.
        TrainingError: no checkpoint is whole.
        TrackingError: the store cannot be reached.
    """
    identity = identify_training(training.plan, training.federation, journal.signer)
    course = Course(training, journal, identity, started)
    if journal.is_new:
        course.begin(starting_point(training.plan, training.engine))
        return course
    changes = journal.check_identity(identity, accept_change)
    finished = journal.finished()
    if finished is not None and not changes:
        return Summary.model_validate_json(finished)
    course.go_on(training, changes)
    return course
