"""Where a training stands: what it goes on from, and what it has committed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from configs import environment
from federated.component import Metrics
from federated.errors import InputError, TrainingError
from federated.rounds import Memories, ServerState, initial_state
from federated.selectors import Selection
from federated.stopping import StopReason
from tasks.fitting import require_fitting, taken_over
from tasks.identity import Identity, digest_of_code, identify_training
from tasks.journal import Journal
from tasks.ledger import BudgetExceeded
from tasks.ledgers import seen_by_start, spending
from tasks.records import Committed
from tasks.run_keys import require_run_key
from tasks.signing import signer
from tasks.spending import Spending
from tasks.starting import Start, require_counted, starting_point
from tasks.summary import Summary
from tasks.training import Evaluated, RoundReport, Training


class _Held(NamedTuple):
    """A round that is over and not committed yet, and what its record will say."""

    state: ServerState
    said: dict[str, Any]
    learnt: Memories


class Course:
    """The state after the latest round, and the reports of all rounds, from every attempt at the training.

    ``memories`` are those of the clients after the latest round. ``measured`` are numbers of the final model that its
    round did not record.
    """

    def __init__(self, training: Training, journal: Journal, identity: Identity, started: float) -> None:
        self._plan, self._journal, self._began = training.plan, journal, started
        self._always = {"plan_sha256": training.plan.digest(), "code_sha256": digest_of_code(identity)}
        self._once: dict[str, Any] = {"identity": identity}
        self.state = initial_state(training.plan.algorithm, training.engine, len(training.federation.clients))
        self.memories: Memories = {}
        self.reports: list[RoundReport] = []
        self.measured: Metrics = {}
        self._spending: Spending | None = None
        self._latest: Committed | None = None
        self._held: _Held | None = None
        self._done: list[Committed] = []

    @property
    def seconds(self) -> float:
        """Wall-clock time of all attempts, as far as they committed something."""
        return time.monotonic() - self._began

    @property
    def milliseconds(self) -> int:
        """When the latest round was committed, in milliseconds since 1970."""
        return 0 if self._latest is None else int(self._latest.record["milliseconds"])

    def pays(self, spending: Spending | None) -> None:
        """What the rounds from now on are paid by."""
        self._spending = spending

    def begin(self, start: Start | None) -> None:
        """Commits the state before round 1, which is paid for first.

        Raises:
            BudgetExceeded: not even that is left.
        """
        self.enter()
        if start is not None:
            self.state = self.state._replace(params=start.params)
        seen = start and seen_by_start(self._plan, start.records)
        said = {"start": start and start.version} | ({"seen": seen} if seen else {})
        self._record(self._journal.commit, _Held(self.state, self._now() | said, {}))

    def go_on(self, training: Training, accepted: list[str]) -> None:
        """Takes up the state after the last round that is whole.

        Raises:
            TrainingError: none is; or a later one was recorded, with noise that cannot be drawn again.
        """
        self.state = taken_over(self._journal.resume(self.state), self.state)
        if training.plan.algorithm.secret:
            _require_latest(self._journal, self.state.round)
        self.memories = self._journal.memories(self.state.round)
        start, *rounds = self._journal.committed
        self.reports = [_report(done) for done in rounds]
        self._latest = (rounds or [start])[-1]
        self._began -= self._latest.record["seconds"]
        self._once = {**self._once, "accepted": accepted} if accepted else {}
        if self.reports and self.reports[-1].spread:
            per_client = training.client_tests.evaluate(training.engine, self.state.params)
            self.reports[-1] = replace(self.reports[-1], per_client=per_client)

    def commit(self, state: ServerState, report: RoundReport, learnt: Memories) -> Committed:
        """Makes a round the latest, by itself; see ``hold`` and ``settle``."""
        self.hold(state, report, learnt)
        return self.settle()[-1]

    def hold(self, state: ServerState, report: RoundReport, learnt: Memories) -> None:
        """A round is over, and waits for ``settle``. The one held before it becomes an interim round of a block.

        ``learnt`` is what its clients keep of it.

        One that was recorded before keeps the numbers of its record.

        Raises:
            TrainingError: the round before was recorded before with another state.
            TrackingError: the store refused.
        """
        if self._held is not None:
            self._done.append(self._record(self._journal.stage, self._held))
        said = self._now()
        if self._spending is not None:
            spent = self._spending.commit()
            report = replace(report, metrics=report.metrics | spent.metrics, means=spent.said["means"])
            said = said | {"privacy": spent.said}
        self._held = _Held(state, said | {"report": report.as_json()}, learnt)
        known = self._journal.recorded(report.round)
        recorded = report if known is None else _report(known)
        if self.reports:  # ten thousand clients are megabytes a round
            self.reports[-1] = replace(self.reports[-1], per_client={})
        self.reports.append(replace(recorded, per_client=report.per_client))
        self.state, self.memories = state, self.memories | learnt

    def settle(self) -> list[Committed]:
        """Commits what is held, all of it at once, and gives it; the last round becomes a checkpoint.

        Raises:
            TrainingError: it was recorded before with another state.
            TrackingError: the store refused.
        """
        if self._held is None:
            return []
        self._done.append(self._record(self._journal.commit, self._held))
        done, self._done, self._held = self._done, [], None
        return done

    def stop_reason(self) -> StopReason | None:
        """Why to stop after the latest round; None to go on."""
        if not self.reports:
            return None
        stop = self._plan.stop
        early = stop and stop.reason([report.metrics for report in self.reports], self.seconds)
        return early or ("rounds" if len(self.reports) >= self._plan.rounds else None)

    def enter(self) -> StopReason | None:
        """Pays for the next round, where that costs privacy. Why not to begin it; None once it may.

        Raises:
            BudgetExceeded: no round has been paid for.
        """
        reason = self.stop_reason()
        if reason is None and self._spending is not None:
            try:
                self._spending.enter(self.state.round + 1)
            except BudgetExceeded:
                if not self.reports:
                    raise
                return "privacy budget"
        return reason

    def admit(self, round: int, selection: Selection) -> Selection:
        """Who of a selection takes part: those that can pay."""
        return selection if self._spending is None else self._spending.admit(round, selection)

    def conclude(self, found: Evaluated) -> None:
        """The final model is measured, whose round was not: its numbers become those of the last report."""
        last = self.reports[-1]
        self.measured = {name: value for name, value in found.metrics.items() if name not in last.metrics}
        metrics = last.metrics | self.measured
        self.reports[-1] = replace(last, metrics=metrics, spread=found.spread, per_client=found.per_client)

    def finish(self, summary: Summary) -> None:
        """The training is over, and everything is registered."""
        self._journal.finish(summary.model_dump_json().encode())

    def _now(self) -> dict[str, Any]:
        return {**self._always, "seconds": self.seconds, "milliseconds": time.time_ns() // 1_000_000}

    def _record(self, write: Callable[[ServerState, dict[str, Any], Memories], Committed], held: _Held) -> Committed:
        self._latest = write(held.state, self._once | held.said, held.learnt)
        # A round that was recorded before keeps its record: what is to be said waits for the next new one.
        self._once = {name: told for name, told in self._once.items() if self._latest.record.get(name) != told}
        return self._latest


def _require_latest(journal: Journal, round: int) -> None:
    """Before anything is paid: computed again with other noise, a later round would not come to what is recorded."""
    if round < journal.last:
        raise TrainingError(
            f"run key {journal.run_key}: round {journal.last} is recorded, and its noise cannot be drawn again, but of "
            f"what it left {'; '.join(journal.damaged)}: restore that from a back-up, or take another key"
        )


def _report(of: Committed) -> RoundReport:
    """As a round's record has it."""
    means = of.record.get("privacy", {}).get("means", "")
    return replace(RoundReport.from_json(of.round, of.record["report"]), means=means)


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
        PlanError: the plan, the code or the data have changed, and ``accept_change`` is false; or it cannot go on
            with that change.
        BudgetExceeded: there is no privacy left for the first round.
        TrainingError: no checkpoint is whole, or none of the last round, whose noise cannot be drawn again; or a
            privacy ledger is not what the training has seen of it.
        TrackingError: the store cannot be reached.
    """
    identity = identify_training(training.plan, training.federation, journal.signer)
    course = Course(training, journal, identity, started)
    if journal.is_new:
        start = starting_point(training.plan, training.engine)
        told = [] if start is None or training.plan.simulation else start.records
        course.pays(spending(training, journal.run_key, journal.signer, told))
        course.begin(start)
        return course
    changes = journal.check_identity(identity, accept_change)
    finished = journal.finished()
    if finished is not None and not changes:
        return Summary.model_validate_json(finished)
    if changes:
        require_counted(training.plan, journal.recorded_so_far)
        require_fitting(journal.plan, training.plan, course.state)
    course.go_on(training, changes)
    course.pays(spending(training, journal.run_key, journal.signer, journal.recorded_so_far))
    return course
