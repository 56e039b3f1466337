"""The tasks of a round, named as the method names them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import State

from configs import environment
from federated.component import Metrics, Vector
from federated.errors import InputError, TrainingError
from federated.evaluation import distribution, evaluate, spread
from federated.onion import Memory, Trained, encode
from federated.rounds import Broadcast, ServerState, broadcast, guide, local_updates, select, server_half
from federated.selectors import Selection
from federated.updates import Update, screen
from tasks.training import At, Contribution, Evaluated, Sealed, Training


class Aggregated(NamedTuple):
    """The server's next state, what aggregation says of itself, who contributed what, and who was left out."""

    state: ServerState
    metrics: Metrics
    contributions: tuple[Contribution, ...]
    left_out: tuple[str, ...]


@task(task_run_name="select_clients {at}", cache_policy=NO_CACHE, persist_result=False)
def select_clients(training: Training, at: At, params: Vector) -> Sealed[Selection]:
    """The cohort of the round, which begins with the model ``params``."""
    return Sealed(select(training.plan.algorithm, training.engine, at.round, params, training.federation.clients))


def may_pass(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Whether what a shard died of may be gone the next time: what the plan or the data are to blame for is not."""
    return not isinstance(state.result(raise_on_failure=False), (InputError, TrainingError))


@task(
    task_run_name="train_clients {at} shard {shard}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=may_pass,
)
def train_clients(
    training: Training, at: At, shard: int, sent: Sealed[Broadcast], cohort: Sealed[dict[str, Memory]]
) -> Sealed[list[Trained]]:
    """Local training of one shard of the cohort, with what its clients keep; ends early once it is cancelled.

    A shard that dies is trained again, alone.
    """
    trained, everybody = list[Trained](), training.federation.clients
    clients = [training.adversary.poisoned(at.round, everybody[name]) for name in cohort.value]
    memories = list(cohort.value.values())
    for one in local_updates(training.plan.algorithm, training.engine, sent.value, clients, memories):
        trained.append(one)
        if training.cancelled.is_set():
            break
    return Sealed(trained)


@task(task_run_name="clip_updates {at}", cache_policy=NO_CACHE, persist_result=False)
def clip_updates(
    training: Training, at: At, sent: Sealed[Broadcast], trained: Sealed[list[Trained]]
) -> Sealed[list[Trained]]:
    """Clipping and every other transform, as the clients apply them before an update leaves."""
    algorithm, layers = training.plan.algorithm.hearing(sent.value.transforms), training.engine.layers
    return Sealed([encode(algorithm, at.round, layers, one) for one in trained.value])


@task(task_run_name="aggregate_updates {at}", cache_policy=NO_CACHE, persist_result=False)
def aggregate_updates(
    training: Training, at: At, state: Sealed[ServerState], updates: Sealed[list[Update]]
) -> Sealed[Aggregated]:
    """The server's half of the round, from the updates that are fit to use."""
    algorithm, root = training.plan.algorithm, training.federation.root
    usable, left_out = screen(at.round, updates.value, training.plan.needed)
    guided = None
    if algorithm.rule.needs_root and root is not None:
        guided = guide(algorithm, training.engine, broadcast(algorithm, state.value), root)
    next_state, metrics = server_half(algorithm.keyed(training.noise_key), state.value, usable, guided)
    return Sealed(Aggregated(next_state, metrics | _update_metrics(usable), contributions(usable), left_out))


@task(task_run_name="evaluate_model {at}", cache_policy=NO_CACHE, persist_result=False)
def evaluate_model(training: Training, at: At, params: Vector) -> Sealed[Evaluated]:
    """The global model on the server's validation rows, if any, and on every client's own test rows."""
    per_client = training.client_tests.evaluate(training.engine, params)
    overall = evaluate(training.engine, params, training.federation.validation)
    overall |= training.adversary.success(training.engine, params, training.federation.validation)
    columns = per_client.columns
    return Sealed(Evaluated(overall | distribution(columns), spread(columns), per_client))


def contributions(updates: Sequence[Update]) -> tuple[Contribution, ...]:
    """Who sent what, by client. Digests are taken side by side: they are most of the cost of committing a round."""
    with ThreadPoolExecutor(environment.workers()) as threads:
        sent = threads.map(lambda update: Contribution(update.client, update.sha256, update.weight), updates)
        return tuple(sorted(sent))


def _update_metrics(updates: Sequence[Update]) -> Metrics:
    """Clients' own numbers, averaged as the rule weighs them; none of nobody."""
    weights = [update.weight for update in updates]
    names = updates[0].metrics if updates else ()
    return {name: float(np.average([update.metrics[name] for update in updates], weights=weights)) for name in names}
