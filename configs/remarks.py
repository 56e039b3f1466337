"""What is legal in a plan, and seldom meant: said in a line each, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from configs.plan import Plan
from federated.federation import Federation
from federated.rules import FixedMean, WeightedMean
from federated.selectors import BySize

_NAMED = 5


def remarks(plan: Plan, federation: Federation) -> list[str]:
    """Of clients with rows of one class, of batches that are not full, of sizes that count twice, of wrong cohorts."""
    return [*_one_class(federation), *_small(plan, federation), *_twice(plan), *_unexpected(plan, federation)]


def _one_class(federation: Federation) -> Iterator[str]:
    if federation.labels is None:
        return
    enough = len(federation.labels)  # of fewer rows chance may make one class
    clients = federation.clients.items()
    names = [name for name, one in clients if len(one.train) >= enough and len(np.unique(one.train.y)) == 1]
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


def _unexpected(plan: Plan, federation: Federation) -> Iterator[str]:
    rule, rate = plan.algorithm.rule, plan.algorithm.select.sampling_rate
    if not isinstance(rule, FixedMean) or rate is None:
        return
    weights = [rule.weigh(name, client.card, len(client.train)) for name, client in federation.clients.items()]
    found = rate * sum(weights)
    if not 0.5 <= found / rule.expected <= 2:
        yield f"algorithm.rule.expected: {rule.expected:g}, but a cohort weighs {found:.3g} on average"


def _listed(names: Sequence[str], clients: int) -> str:
    more = " …" if len(names) > _NAMED else ""
    return f"{len(names)} of {clients} clients ({', '.join(names[:_NAMED])}{more})"
