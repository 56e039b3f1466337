"""The main flow: one plan, round after round, to a registered model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.states import Cancelled, State
from prefect.task_runners import ThreadPoolTaskRunner

from configs import environment
from configs.loading import resolve_plan
from configs.plan import Plan
from configs.remarks import remarks
from federated.stopping import StopReason
from flows.dead_runs import end_abandoned, end_dead
from flows.named import plan_name
from flows.one_at_a_time import one_training_of
from flows.registration import Registration, registration
from flows.waiting import await_mlflow
from tasks.baselines import Baseline, pooled, train_baselines
from tasks.blocks import next_block, run_rounds
from tasks.course import Course, begin_or_go_on, opened
from tasks.loading import load_training
from tasks.playing import Stages, play
from tasks.progress import ProgressArtifact
from tasks.recovering import complete
from tasks.registering import publish_results
from tasks.round_tasks import (
    aggregate_updates,
    clip_updates,
    evaluate_model,
    select_clients,
    train_clients,
)
from tasks.summary import Summary, publish_summary, summarise
from tasks.training import At, RoundReport, Sealed, Training
from tasks.watching import tell, watcher

_AS_TASKS = Stages(select_clients, train_clients.submit, clip_updates, aggregate_updates, evaluate_model)


@flow(
    name="train",
    flow_run_name=plan_name,
    persist_result=False,
    # One thread more than training uses: registration runs beside it.
    task_runner=ThreadPoolTaskRunner(max_workers=environment.workers() + 1),  # type: ignore[arg-type]
)
def train(
    plan: Plan | str, overrides: Sequence[str] = (), run_key: str = "", accept_change: bool = False
) -> Summary | State[Any]:
    """Trains ``plan`` to its end and registers the model of every round.

    ``plan`` is a whole plan, or the name or path of one, which ``overrides`` such as ``rounds=5`` change. A training
    that ended early goes on after its last round when the same ``run_key`` is given; a retried flow run does so by
    itself. Where the plan or the code have changed since then, it does only with ``accept_change``.

    Ctrl-C ends the run as cancelled and its MLflow run as killed; the versions that are registered stay.

    Raises:
        InputError: the plan or the data are wrong, or have changed.
        TrainingError: a round cannot go on.
        TrackingError: MLflow cannot be reached, or cannot store.
    """
    started = time.monotonic()
    resolved = resolve_plan(plan, overrides)
    await_mlflow()
    try:
        with one_training_of(resolved.name), opened(resolved.name, run_key or str(runtime.flow_run.id)) as journal:
            if runtime.deployment.id is not None:
                end_abandoned(resolved)
            end_dead(journal.attempts.note(str(runtime.flow_run.id)), run_key)
            training = load_training(resolved).value
            complete(training, journal)
            course = begin_or_go_on(training, journal, accept_change, started)
            if isinstance(course, Summary):
                return course
            for trouble in journal.damaged:
                tell(f"{trouble}; going on from the checkpoint before")
            watcher().begins(resolved, training.engine.size, journal.run_key, course.state.round)
            with registration(training, journal) as registering:
                summary = _train(training, course, registering)
            course.finish(summary)  # last: what is finished is not looked at again
            return summary
    except KeyboardInterrupt:
        return Cancelled(message="stopped by the user")


def _train(training: Training, course: Course, registering: Registration) -> Summary:
    reason = _run_rounds(training, course, registering)
    if not course.reports[-1].per_client:
        at = At(training.plan.name, course.state.round)
        course.conclude(evaluate_model(training, at, course.state.params).value)
    baselines = _run_baselines(training, course.state.round)
    version = registering.settle()
    summary = summarise(
        training,
        params=course.state.params,
        reports=course.reports,
        baselines=baselines,
        run_id=registering.registrar.value.run.run_id,
        version=version,
        stop_reason=reason,
        seconds=course.seconds,
    )
    publish_results(registering.registrar, training, summary, Sealed(course))
    publish_summary(summary, course.reports)
    return summary


def _run_rounds(training: Training, course: Course, registering: Registration) -> StopReason:
    plan = training.plan
    progress, logger = ProgressArtifact(plan.name, plan.rounds), get_run_logger()
    for remark in remarks(plan, training.federation):
        logger.warning(remark)
    run = _run_round if plan.commit_every == 1 else _run_block
    while (reason := course.enter()) is None:
        for report in _committed(training, course, registering, run):
            watcher().round_done(report)
            logger.info("%s", report)
        progress.done(course.state.round)
    registering.settle()
    progress.finish()
    return reason


def _committed(
    training: Training, course: Course, registering: Registration, run: Callable[[Training, Course], None]
) -> list[RoundReport]:
    """Rounds that were run and are committed; those that were over when a later one failed are committed, too."""
    done = len(course.reports)
    try:
        run(training, course)
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to report
            _commit(course, registering)
        raise
    _commit(course, registering)
    return course.reports[done:]


def _commit(course: Course, registering: Registration) -> None:
    committed = course.settle()
    if committed:
        *before, last = committed
        registering.submit(last, before)


def _run_round(training: Training, course: Course) -> None:
    course.hold(*play(training, course.state, course.memories, _AS_TASKS, course.admit))


def _run_block(training: Training, course: Course) -> None:
    run_rounds(training, next_block(training, course), Sealed(course))


def _run_baselines(training: Training, rounds: int) -> dict[str, Baseline]:
    plan = training.plan
    if not plan.baselines:
        return {}
    watcher().compares()
    parties = [pooled(training), *training.federation.clients.values()]
    count = min(environment.workers(), len(parties))
    shards = [
        train_baselines.submit(training, plan.name, shard, rounds, Sealed(parties[shard::count]))
        for shard in range(count)
    ]
    return {name: baseline for shard in shards for name, baseline in shard.result().value.items()}
