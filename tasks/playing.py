"""One round, stage by stage; how a stage is called does not change what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from configs import environment
from federated.component import Metrics, Vector
from federated.rounds import ServerState
from federated.updates import Update
from tasks.round_tasks import Aggregated
from tasks.stopwatch import Stopwatch
from tasks.training import At, Evaluated, RoundReport, Sealed, Training

Cohort = Sealed[tuple[str, ...]]
Updates = Sealed[list[Update]]


class Promised(Protocol):
    """A shard under way."""

    def result(self) -> Updates:
        """Its updates, once it is trained."""
        ...


class Stages(NamedTuple):
    """The stages of a round, as tasks or as plain functions; ``train`` begins a shard and does not wait for it."""

    select: Callable[[Training, At], Cohort]
    train: Callable[[Training, At, int, Vector, Cohort], Promised]
    clip: Callable[[Training, At, Updates], Updates]
    aggregate: Callable[[Training, At, Sealed[ServerState], Updates], Sealed[Aggregated]]
    evaluate: Callable[[Training, At, Vector], Sealed[Evaluated]]


def play(training: Training, state: ServerState, stages: Stages) -> tuple[ServerState, RoundReport]:
    """The round after ``state``: the state after it, and what it did."""
    at, watch = At(training.plan.name, state.round + 1), Stopwatch()
    cohort = stages.select(training, at).value
    watch.lap("select")
    updates = _train_cohort(training, at, state, cohort, stages)
    watch.lap("train")
    encoded = stages.clip(training, at, Sealed(updates))
    watch.lap("clip")
    aggregated = stages.aggregate(training, at, Sealed(state), encoded).value
    watch.lap("aggregate")
    evaluated = Evaluated({}, (), {})
    if training.plan.evaluates(at.round):
        evaluated = stages.evaluate(training, at, aggregated.state.params).value
        watch.lap("evaluate")
    traffic = _traffic(state, cohort, aggregated, encoded.value)
    metrics = evaluated.metrics | aggregated.metrics | traffic | watch.seconds()
    sent = aggregated.contributions
    report = RoundReport(at.round, sent, aggregated.left_out, metrics, evaluated.spread, evaluated.per_client)
    return aggregated.state, report


def _train_cohort(
    training: Training, at: At, state: ServerState, cohort: tuple[str, ...], stages: Stages
) -> list[Update]:
    """The cohort in shards, side by side. How it is cut does not change the updates."""
    count = min(environment.workers(), len(cohort))
    shards = [stages.train(training, at, shard, state.params, Sealed(cohort[shard::count])) for shard in range(count)]
    return [update for shard in shards for update in shard.result().value]


def _traffic(state: ServerState, cohort: tuple[str, ...], aggregated: Aggregated, sent: list[Update]) -> Metrics:
    return {
        "cohort": float(len(cohort)),
        "left_out": float(len(aggregated.left_out)),
        "bytes_down": float(state.params.nbytes * len(cohort)),
        "bytes_up": float(sum(update.nbytes for update in sent)),
    }
