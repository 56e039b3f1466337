"""A plan's rounds one after the other, without Prefect, MLflow and files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from federated.loop import one_round
from federated.rounds import Memories, initial_state

if TYPE_CHECKING:
    from configs.plan import Plan
    from federated.component import Vector
    from federated.engine import Engine
    from federated.federation import Federation


def models(plan: Plan, engine: Engine, federation: Federation, first: Vector, done: int = 0) -> Iterator[Vector]:
    """The global model before round 1, which is ``first``, and after each of the plan's rounds.

    Where rounds are ``done``, ``first`` is the model after them. That is for algorithms whose state is the model alone.

    Raises:
        TrainingError: a round cannot be finished.
    """
    state = initial_state(plan.algorithm, engine, len(federation.clients))._replace(params=first, round=done)
    memories: Memories = {}
    yield first
    for _ in range(done, plan.rounds):
        passed = one_round(plan.algorithm, engine, state, federation.clients, memories, plan.needed)
        state, memories = passed.state, {**memories, **passed.learnt}
        yield state.params
