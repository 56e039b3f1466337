"""Garbage collection: weights by the plan's policy, everything else for ever."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import flow, get_run_logger

from configs.loading import resolve_plan
from configs.plan import Plan
from flows.named import run_name
from flows.one_at_a_time import one_promotion_of
from flows.waiting import await_mlflow
from tasks.retaining import remove_weights


@flow(name="retain", flow_run_name=run_name, persist_result=False)
def retain(plan: Plan | str, overrides: Sequence[str] = ()) -> list[str]:
    """Removes the weights that ``plan.retention`` does not keep; gives the versions that lost theirs.

    Raises:
        PlanError: the plan is wrong.
        TrackingError: MLflow or the artifact store refused.
    """
    resolved = resolve_plan(plan, overrides)
    await_mlflow()
    with one_promotion_of(resolved.name):  # no alias moves to a version while its weights go
        removed = remove_weights(resolved)
    get_run_logger().info("weights removed from %d versions: %s", len(removed), ", ".join(removed) or "none")
    return removed
