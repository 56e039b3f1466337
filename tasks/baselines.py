"""What federated learning is compared with: each client alone, and all rows in one place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE

from federated.component import Metrics
from federated.data import Client, concatenate
from federated.engine import Terms
from federated.evaluation import columns, distribution, evaluate
from federated.randomness import generator
from tasks.training import Sealed, Training

POOLED = ""  # no client is called nothing


class Baseline(NamedTuple):
    """A model trained without federation, on the server's test rows and on the client's own."""

    test: Metrics
    own: Metrics


@task(
    task_run_name="train_baselines {plan} shard {shard}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def train_baselines(
    training: Training, plan: str, shard: int, rounds: int, clients: Sealed[Sequence[Client]]
) -> Sealed[dict[str, Baseline]]:
    """Each client's model, from the same start, after ``rounds`` local trainings on its own rows."""
    return Sealed(
        {client.name: _alone(training, client, rounds) for client in clients.value if not training.cancelled.is_set()}
    )


def pooled(training: Training) -> Client:
    """All clients as one: what nobody may do with real parties."""
    clients = list(training.federation.clients.values())
    train = concatenate([client.train for client in clients])
    return Client(POOLED, train, concatenate([client.test for client in clients]))


def _alone(training: Training, client: Client, rounds: int) -> Baseline:
    algorithm, engine = training.plan.algorithm, training.engine
    rng, params = generator(algorithm.seed, 0, "baseline", client.name), engine.init(algorithm.seed)
    for number in range(1, rounds + 1):
        if training.cancelled.is_set():
            break
        terms = Terms(factor=algorithm.local.schedule.factor(number))
        params = engine.fit(params, client.train, algorithm.local, rng, terms).params
    return Baseline(evaluate(engine, params, training.federation.test), evaluate(engine, params, client.test))


def overall(baselines: dict[str, Baseline]) -> Metrics:
    """The pooled model, and the clients' own models in distribution, on the server's test rows."""
    alone = {name: baseline.test for name, baseline in baselines.items() if name != POOLED}
    spread = distribution(columns(alone))
    return {f"pooled_test_{name}": value for name, value in baselines[POOLED].test.items()} | {
        name.replace("client_", "alone_test_"): value for name, value in spread.items()
    }


def by_client(baseline: Baseline) -> Metrics:
    """A client's own model on the server's test rows and on the client's."""
    return {f"alone_test_{name}": value for name, value in baseline.test.items()} | {
        f"alone_own_{name}": value for name, value in baseline.own.items()
    }
