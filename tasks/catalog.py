"""What MLflow holds of past trainings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tasks.tracking import connect, require_mlflow, storing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_TAG = "plan_sha256"


def list_runs(limit: int) -> list[dict[str, Any]]:
    """The latest trainings, newest first."""
    require_mlflow()
    client = connect()
    with storing("runs", verb="list"):
        experiments = [found.experiment_id for found in client.search_experiments()]
        runs = client.search_runs(experiments, f"tags.{_TAG} != ''", max_results=limit, order_by=["start_time DESC"])
    return [
        {
            "plan": run.info.run_name,
            "status": run.info.status,
            "started": f"{datetime.fromtimestamp(run.info.start_time / 1000, UTC):%Y-%m-%d %H:%M:%SZ}",
            "ended_by": run.data.tags.get("stop_reason", ""),
            "accuracy": run.data.metrics.get("test_accuracy"),
            "loss": run.data.metrics.get("test_loss"),
            "version": run.data.tags.get("model_version", ""),
            "run_id": run.info.run_id,
        }
        for run in runs
    ]


def list_models() -> list[dict[str, Any]]:
    """The registered models, with the latest version of each."""
    require_mlflow()
    client = connect()
    with storing("models", verb="list"):
        latest = [_latest(client, name) for name in _names(client)]
    return [
        {
            "model": version.name,
            "latest": str(version.version),
            "round": version.tags.get("round", ""),
            "uri": f"models:/{version.name}@latest",
            "run_id": version.run_id,
            "weights_sha256": version.tags.get("weights_sha256", ""),
        }
        for version in latest
        if version is not None and _TAG in version.tags
    ]


def _names(client: MlflowClient) -> Iterator[str]:
    token: str | None = None
    while token != "":
        page = client.search_registered_models(max_results=1000, page_token=token)
        yield from (model.name for model in page)
        token = page.token or ""


def _latest(client: MlflowClient, name: str) -> ModelVersion | None:
    """The latest version; None for a model that has none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, "latest")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
