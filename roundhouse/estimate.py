"""What a plan will cost, without training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from configs import environment
from configs.plan import Plan
from federated.federation import Federation
from federated.onion import Trained, encode
from federated.updates import Update

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
    copies += plan.algorithm.memories * (len(clients) + cohort)  # and what the cohort keeps next
    vectors = 1 + correction.extra_vectors
    data = sum(client.train.x.nbytes + 2 * client.test.x.nbytes for client in clients)
    return Estimate(
        clients=len(clients),
        cohort=cohort,
        train_rows=sum(len(client.train) for client in clients),
        parameters=parameters,
        bytes_down=vector * vectors * cohort,
        bytes_up=(_bytes_up(plan, parameters) + vector * correction.extra_vectors) * cohort,
        memory_bytes=_RUNTIME_BYTES + vector * copies + 2 * data,
    )


def _bytes_up(plan: Plan, parameters: int) -> int:
    """What one client sends of so many weights: no transform's bytes depend on what they are."""
    update = Update("", np.zeros(parameters, np.float32), 1.0)
    return encode(plan.algorithm, 1, (parameters,), Trained(update, {})).update.nbytes
