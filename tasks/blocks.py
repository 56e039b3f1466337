"""Rounds that run as one task and are committed together: for rounds shorter than their orchestration."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs import environment
from tasks.course import Course
from tasks.playing import Stages, play
from tasks.round_tasks import aggregate_updates, clip_updates, evaluate_model, may_pass, select_clients, train_clients
from tasks.training import Sealed, Span, Training


def next_block(training: Training, course: Course) -> Span:
    """From the next round to the next multiple of ``commit_every``, wherever an attempt before has ended."""
    plan, done = training.plan, course.state.round
    last = (done // plan.commit_every + 1) * plan.commit_every
    return Span(plan.name, done + 1, min(last, plan.rounds))


@task(
    task_run_name="run_rounds {span}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=may_pass,
)
def run_rounds(training: Training, span: Span, course: Sealed[Course]) -> None:
    """The rounds of a block, until one of them ends the training; the course holds those that are over.

    No round speaks to Prefect. A block that dies goes on, once more, with the round that it died in.
    """
    with ThreadPoolExecutor(environment.workers(), thread_name_prefix="shard") as threads:
        try:
            _run(training, span, course.value, threads)
        except BaseException as error:
            if not isinstance(error, Exception):  # a signal: the shards need not come to their end
                training.cancelled.set()
            raise


def _run(training: Training, span: Span, course: Course, threads: ThreadPoolExecutor) -> None:
    stages = Stages(
        select=select_clients.fn,
        train=lambda *shard: threads.submit(train_clients.fn, *shard),
        clip=clip_updates.fn,
        aggregate=aggregate_updates.fn,
        evaluate=evaluate_model.fn,
    )
    while course.state.round < span.last and course.enter() is None:
        played = play(training, course.state, course.memories, stages, course.admit)
        if training.cancelled.is_set():  # some clients may be missing from the round
            raise KeyboardInterrupt
        course.hold(*played)
