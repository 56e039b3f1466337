"""One round, stage by stage; how a stage is called does not change what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from configs import environment
from federated.component import Metrics, Vector
from federated.errors import stage
from federated.rounds import Broadcast, Memories, Memory, ServerState, Trained, broadcast
from federated.updates import Update
from tasks.round_tasks import Aggregated
from tasks.stopwatch import Stopwatch
from tasks.training import At, Evaluated, RoundReport, Sealed, Training

Cohort = Sealed[tuple[str, ...]]
Updates = Sealed[list[Update]]
Shard = Sealed[dict[str, Memory]]


class Promised(Protocol):
    """A shard under way."""

    def result(self) -> Sealed[list[Trained]]:
        """What its clients have trained."""
        ...


class Played(NamedTuple):
    """The state after a round, what it did, and what its clients keep of it, by client."""

    state: ServerState
    report: RoundReport
    learnt: Memories


class Stages(NamedTuple):
    """The stages of a round, as tasks or as plain functions; ``train`` begins a shard and does not wait for it."""

    select: Callable[[Training, At], Cohort]
    train: Callable[[Training, At, int, Sealed[Broadcast], Shard], Promised]
    clip: Callable[[Training, At, Updates], Updates]
    aggregate: Callable[[Training, At, Sealed[ServerState], Updates], Sealed[Aggregated]]
    evaluate: Callable[[Training, At, Vector], Sealed[Evaluated]]


def play(training: Training, state: ServerState, memories: Memories, stages: Stages) -> Played:
    """The round after ``state``; ``memories`` is what clients have kept of earlier ones."""
    at, watch = At(training.plan.name, state.round + 1), Stopwatch()
    with stage(at.round, "selection"):
        cohort = stages.select(training, at).value
    watch.lap("select")
    sent = broadcast(training.plan.algorithm, state)
    trained = _train_cohort(training, at, sent, {name: memories.get(name) for name in cohort}, stages)
    watch.lap("train")
    encoded = stages.clip(training, at, Sealed([one.update for one in trained]))
    watch.lap("clip")
    with stage(at.round, "aggregation"):
        aggregated = stages.aggregate(training, at, Sealed(state), encoded).value
    learnt = {
        one.update.client: one.memory
        for one in trained
        if one.memory is not None and one.update.client not in aggregated.left_out
    }
    traffic = _traffic(sent, cohort, aggregated, encoded.value)
    # Whoever else still holds the lists holds no updates: those of two rounds at a time are twice the memory.
    trained.clear()
    encoded.value.clear()
    watch.lap("aggregate")
    evaluated = Evaluated({}, (), {})
    if training.plan.evaluates(at.round):
        with stage(at.round, "evaluation"):
            evaluated = stages.evaluate(training, at, aggregated.state.params).value
        watch.lap("evaluate")
    metrics = evaluated.metrics | aggregated.metrics | traffic | watch.seconds()
    contributions, left_out = aggregated.contributions, aggregated.left_out
    report = RoundReport(at.round, contributions, left_out, metrics, evaluated.spread, evaluated.per_client)
    return Played(aggregated.state, report, learnt)


def _train_cohort(
    training: Training, at: At, sent: Broadcast, cohort: dict[str, Memory], stages: Stages
) -> list[Trained]:
    """The cohort in shards, side by side. How it is cut does not change the updates."""
    count, members = min(environment.workers(), len(cohort)), list(cohort.items())
    shards = [
        stages.train(training, at, shard, Sealed(sent), Sealed(dict(members[shard::count]))) for shard in range(count)
    ]
    trained = list[Trained]()
    for shard in shards:
        done = shard.result().value
        trained += done
        done.clear()
    return trained


def _traffic(down: Broadcast, cohort: tuple[str, ...], aggregated: Aggregated, up: list[Update]) -> Metrics:
    return {
        "cohort": float(len(cohort)),
        "left_out": float(len(aggregated.left_out)),
        "bytes_down": float(down.nbytes * len(cohort)),
        "bytes_up": float(sum(update.nbytes for update in up)),
    }
