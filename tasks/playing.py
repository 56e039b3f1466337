"""One round, stage by stage; how a stage is called does not change what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from configs import environment
from federated.component import Metrics, Vector
from federated.errors import stage
from federated.onion import Memory, Trained
from federated.rounds import Broadcast, Memories, ServerState, abandon, broadcast
from federated.selectors import Selection
from federated.updates import Update
from tasks.round_tasks import Aggregated
from tasks.stopwatch import Stopwatch
from tasks.store import sha256
from tasks.training import At, Contribution, Evaluated, RoundReport, Sealed, Training

Updates = Sealed[list[Update]]
Trainings = Sealed[list[Trained]]
Shard = Sealed[dict[str, Memory]]

_NAMED = 200  # eligible clients that a record names


Admit = Callable[[int, Selection], Selection]
"""Who of the selection of a round takes part."""


class Promised(Protocol):
    """A shard under way."""

    def result(self) -> Trainings:
        """What its clients have trained."""
        ...


class Played(NamedTuple):
    """The state after a round, what it did, and what its clients keep of it, by client."""

    state: ServerState
    report: RoundReport
    learnt: Memories


class Stages(NamedTuple):
    """The stages of a round, as tasks or as plain functions; ``train`` begins a shard and does not wait for it."""

    select: Callable[[Training, At, Vector], Sealed[Selection]]
    train: Callable[[Training, At, int, Sealed[Broadcast], Shard], Promised]
    clip: Callable[[Training, At, Sealed[Broadcast], Trainings], Trainings]
    aggregate: Callable[[Training, At, Sealed[ServerState], Updates], Sealed[Aggregated]]
    evaluate: Callable[[Training, At, Vector], Sealed[Evaluated]]


def play(training: Training, state: ServerState, memories: Memories, stages: Stages, admit: Admit) -> Played:
    """The round after ``state``; ``memories`` is what clients have kept of earlier ones. Some may not be admitted."""
    at, watch = At(training.plan.name, state.round + 1), Stopwatch()
    with stage(at.round, "selection"):
        selection = admit(at.round, stages.select(training, at, state.params).value)
    watch.lap("select")
    if len(selection.cohort) < training.plan.needed:
        worked = _Worked(abandon(state), {}, (), (), {"cohort": 0.0, "left_out": 0.0, "abandoned": 1.0})
    else:
        worked = _work(training, at, state, {name: memories.get(name, {}) for name in selection.cohort}, stages, watch)
    evaluated = Evaluated({}, (), {})
    if training.plan.evaluates(at.round):
        with stage(at.round, "evaluation"):
            evaluated = stages.evaluate(training, at, worked.state.params).value
        watch.lap("evaluate")
    report = RoundReport(
        round=at.round,
        contributions=worked.contributions,
        left_out=worked.left_out,
        metrics=evaluated.metrics | worked.metrics | {"eligible": float(len(selection.eligible))} | watch.seconds(),
        spread=evaluated.spread,
        per_client=evaluated.per_client,
        selection=_said(selection, len(training.federation.clients)),
    )
    return Played(worked.state, report, worked.learnt)


class _Worked(NamedTuple):
    """What a cohort and the server have made of a round, before it is evaluated."""

    state: ServerState
    learnt: Memories
    contributions: tuple[Contribution, ...]
    left_out: tuple[str, ...]
    metrics: Metrics


def _work(
    training: Training, at: At, state: ServerState, cohort: Memories, stages: Stages, watch: Stopwatch
) -> _Worked:
    sent = broadcast(training.plan.algorithm, state)
    trained = training.adversary.lied(at.round, _train_cohort(training, at, sent, cohort, stages))
    watch.lap("train")
    before = sum(one.update.nbytes for one in trained)
    encoded = stages.clip(training, at, Sealed(sent), Sealed(trained))
    watch.lap("clip")
    updates = [one.update for one in encoded.value]
    with stage(at.round, "aggregation"):
        aggregated = stages.aggregate(training, at, Sealed(state), Sealed(updates)).value
    learnt = {
        update.client: memory for update, memory in encoded.value if memory and update.client not in aggregated.left_out
    }
    traffic = {
        "cohort": float(len(cohort)),
        "left_out": float(len(aggregated.left_out)),
        "bytes_down": float(sent.nbytes * len(cohort)),
        "bytes_up": float(sum(update.nbytes for update in updates)),
        "bytes_up_before": float(before),
    } | training.adversary.census(at.round, cohort)
    # Whoever else still holds the lists holds no updates: those of two rounds at a time are twice the memory.
    for held in (trained, encoded.value, updates):
        held.clear()
    watch.lap("aggregate")
    return _Worked(
        aggregated.state, learnt, aggregated.contributions, aggregated.left_out, aggregated.metrics | traffic
    )


def _said(selection: Selection, clients: int) -> dict[str, Any]:
    """What a record says of a selection: names where there are few."""
    eligible: Any = list(selection.eligible)
    if len(eligible) == clients:
        eligible = "all"
    elif len(eligible) > _NAMED:
        eligible = {"clients": len(eligible), "sha256": sha256("\n".join(eligible).encode())}
    return {"eligible": eligible, "reasons": dict(selection.reasons)}


def _train_cohort(training: Training, at: At, sent: Broadcast, cohort: Memories, stages: Stages) -> list[Trained]:
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
