"""Recurring training: from the champion, on new data, to a new champion if it earns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from configs import environment
from configs.loading import resolve_plan
from configs.plan import Plan
from flows.named import run_name
from flows.promote import promote
from flows.train import train
from tasks.news import find_new_data
from tasks.summary import Summary
from tasks.tracking import require_mlflow


@flow(
    name="retrain",
    flow_run_name=run_name,
    persist_result=False,
    task_runner=ThreadPoolTaskRunner(max_workers=environment.workers() + 1),  # type: ignore[arg-type]
)
def retrain(plan: Plan | str, overrides: Sequence[str] = (), only_new_data: bool = True) -> State[Any]:
    """Trains ``plan`` from its champion, then promotes what came out.

    With ``only_new_data`` nothing is trained where no client's rows have changed since the champion was.

    Raises:
        InputError: the plan or the data are wrong.
        TrainingError: a round cannot go on, or a version is not what its training registered.
        TrackingError: MLflow cannot be reached.
    """
    resolved = resolve_plan(resolve_plan(plan, overrides), ["start={kind: champion}"])
    require_mlflow()
    changed = find_new_data(resolved)
    if only_new_data and changed == []:
        reason = "no client has new data since the champion was trained"
        get_run_logger().info(reason)
        return Completed(name="Skipped", message=reason)
    get_run_logger().info("new data: %s", "no champion yet" if changed is None else ", ".join(changed))
    # In this flow run, not one of their own: one graph, and a retry goes on where it ended.
    trained = train.fn(resolved)
    if not isinstance(trained, Summary):
        return trained
    return promote.fn(resolved, version=trained.model_version)
