"""Looks whether the clients' data have moved away from the champion; says so as an event that automations hear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.events import emit_event
from prefect.states import Completed, State

from configs.loading import resolve_plan
from configs.plan import Plan
from flows.named import run_name
from flows.waiting import await_mlflow
from tasks.drifting import Drift, measure_drift, publish_drift

DRIFTED = "roundhouse.drifted"


@flow(name="drift", flow_run_name=run_name, persist_result=False)
def drift(plan: Plan | str, overrides: Sequence[str] = ()) -> Drift | State[Any]:
    """Compares the rows of today with those that the champion was trained on.

    Where ``plan.drift`` is exceeded it emits ``roundhouse.drifted`` for ``roundhouse.model.NAME``. Where there is no
    champion yet it ends as Skipped.

    Raises:
        InputError: the plan is wrong, or the data have other features.
        TrainingError: the champion is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    resolved = resolve_plan(plan, overrides)
    await_mlflow()
    found = measure_drift(resolved)
    if found is None:
        reason = f"{resolved.name} has no champion yet; roundhouse promote {resolved.name} makes one"
        get_run_logger().info(reason)
        return Completed(name="Skipped", message=reason)
    publish_drift(found)
    if found.drifted:
        resource = {"prefect.resource.id": f"roundhouse.model.{resolved.name}"}
        emit_event(DRIFTED, resource=resource, payload=found.model_dump())
    return found
