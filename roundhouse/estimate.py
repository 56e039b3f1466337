"""What a plan will cost, without training."""

from __future__ import annotations

from typing import NamedTuple

from configs import environment
from configs.plan import Plan
from federated.federation import Federation

_FLOAT = 4
_RUNTIME_BYTES = 900 * 2**20  # TensorFlow, Prefect's client and MLflow, loaded and idle
_COPIES_IN_TRAINING = 5  # weights, gradient, two optimizer slots, the result


class Estimate(NamedTuple):
    """Sizes in bytes; ``memory_bytes`` is of the training process and within a factor of two."""

    clients: int
    cohort: int
    train_rows: int
    parameters: int
    bytes_down: int
    bytes_up: int
    memory_bytes: int


def estimate(plan: Plan, federation: Federation) -> Estimate:
    """Counts parameters and multiplies."""
    clients = list(federation.clients.values())
    parameters = plan.model.parameters(federation.inputs, federation.classes)
    cohort = plan.algorithm.select.cohort_size(len(clients))
    vector, correction = parameters * _FLOAT, plan.algorithm.correction
    copies = 3 + 2 * cohort + _COPIES_IN_TRAINING * environment.workers()
    copies += len(clients) + cohort if plan.algorithm.remembers else 0  # memories, and those of the cohort's next
    vectors = 1 + correction.extra_vectors
    data = sum(client.train.x.nbytes + 2 * client.test.x.nbytes for client in clients)
    return Estimate(
        clients=len(clients),
        cohort=cohort,
        train_rows=sum(len(client.train) for client in clients),
        parameters=parameters,
        bytes_down=vector * vectors * cohort,
        bytes_up=vector * vectors * cohort,
        memory_bytes=_RUNTIME_BYTES + vector * copies + 2 * data,
    )
