"""What is legal in a plan, and seldom meant: said in a line each, before anything trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from configs.plan import Plan
from federated.federation import Federation
from federated.rules import FixedMean, TrimmedMean, WeightedMean
from federated.selectors import Available, BySize

_NAMED = 5


def remarks(plan: Plan, federation: Federation) -> list[str]:
    """What the source found, and of clients, batches, cohorts and rules what seldom is as it was meant."""
    return [
        *federation.remarks,
        *_one_class(federation),
        *_small(plan, federation),
        *_never_there(plan, federation),
        *_twice(plan),
        *_unexpected(plan, federation),
        *_untrimmed(plan),
    ]


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


def _never_there(plan: Plan, federation: Federation) -> Iterator[str]:
    select = plan.algorithm.select
    names = [name for name in federation.clients if isinstance(select, Available) and not select.reaches(name)]
    if names:
        yield f"algorithm.select.available: never there, so never trained: {_listed(names, len(federation.clients))}"


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


def _untrimmed(plan: Plan) -> Iterator[str]:
    rule, least = plan.algorithm.rule, max(plan.needed, 1)
    if isinstance(rule, TrimmedMean) and rule.robust and least < rule.cuts_from:
        yield (
            f"algorithm.rule.trimmed_mean.trim: {rule.trim:g} cuts nobody where only {least} updates come, "
            f"which quorum allows; it cuts one at each end from {rule.cuts_from} on"
        )


def _listed(names: Sequence[str], clients: int) -> str:
    more = " …" if len(names) > _NAMED else ""
    return f"{len(names)} of {clients} clients ({', '.join(names[:_NAMED])}{more})"
