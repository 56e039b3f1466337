"""What is legal in a plan, and seldom meant: said in a line each, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from configs.plan import Plan
from federated.federation import Federation
from federated.rules import WeightedMean
from federated.selectors import BySize

_NAMED = 5


def remarks(plan: Plan, federation: Federation) -> list[str]:
    """Of clients with rows of one class, of rows that are no full batch, and of sizes that count twice."""
    return [*_one_class(federation), *_small(plan, federation), *_twice(plan)]


def _one_class(federation: Federation) -> Iterator[str]:
    if federation.labels is None:
        return
    names = [name for name, client in federation.clients.items() if len(np.unique(client.train.y)) == 1]
    if names:
        yield f"partition: training rows of one class only: {_listed(names, len(federation.clients))}"


def _small(plan: Plan, federation: Federation) -> Iterator[str]:
    size = plan.algorithm.local.batch_size
    if size is None:
        return
    names = [name for name, client in federation.clients.items() if len(client.train) < size]
    if names:
        whose = _listed(names, len(federation.clients))
        yield f"algorithm.local.batch_size: fewer than {size} training rows, all of them one batch: {whose}"


def _twice(plan: Plan) -> Iterator[str]:
    if isinstance(plan.algorithm.select, BySize) and isinstance(plan.algorithm.rule, WeightedMean):
        yield "algorithm.rule: weighted_mean and select by_size count clients' rows twice; take the rule mean"


def _listed(names: Sequence[str], clients: int) -> str:
    more = " …" if len(names) > _NAMED else ""
    return f"{len(names)} of {clients} clients ({', '.join(names[:_NAMED])}{more})"
