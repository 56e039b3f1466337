"""Recurring training: from the champion, on new data, to a new champion if it earns it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, get_run_logger
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed, State
from prefect.task_runners import ThreadPoolTaskRunner

from configs import environment
from configs.loading import resolve_plan
from configs.plan import Plan
from flows.named import run_name
from flows.promote import promote
from flows.train import train
from flows.waiting import await_mlflow
from tasks.news import find_new_data
from tasks.summary import Summary


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
    await_mlflow()
    news = find_new_data(resolved)
    if news.trained is not None:
        return Completed(name="Skipped", message=_said_of(resolved, news.trained))
    if only_new_data and news.changed == []:
        return Completed(name="Skipped", message="no client has new data since the champion was trained")
    get_run_logger().info("new data: %s", "no champion yet" if news.changed is None else ", ".join(news.changed))
    # In this flow run, not one of their own: one graph, and a retry goes on where it ended.
    trained = train.fn(resolved)
    if not isinstance(trained, Summary):
        return trained
    if resolved.promotion.approval:
        return _ask(resolved, trained.model_version)
    return promote.fn(resolved, version=trained.model_version)


def _said_of(plan: Plan, version: str) -> str:
    return (
        f"version {version} comes from this champion, plan and data already; roundhouse promote {plan.name} says what "
        "keeps it from being the champion"
    )


def _ask(plan: Plan, version: str) -> State[Any]:
    """Leaves the promotion to a run of its own: one that holds the place of its plan cannot pause for a day."""
    name = "promote/on-demand"
    try:
        given = {"plan": plan.model_dump(mode="json"), "version": version}
        asked = run_deployment(name, parameters=given, timeout=0, as_subflow=False)
    except ObjectNotFound:
        return Completed(name="Candidate", message=f"version {version} waits for approval: there is no {name}")
    return Completed(name="Candidate", message=f"version {version} waits for approval, in flow run {asked.name}")
