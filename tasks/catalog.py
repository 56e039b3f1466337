"""What MLflow holds of past trainings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tasks.tracking import connect, require_mlflow, storing

_TAG = "plan_sha256"


def list_runs(limit: int) -> list[dict[str, Any]]:
    """The latest trainings, newest first."""
    require_mlflow()
    client = connect()
    with storing("a list of runs"):
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
    with storing("a list of models"):
        names = [model.name for model in client.search_registered_models()]
        latest = [client.get_model_version_by_alias(name, "latest") for name in names]
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
        if _TAG in version.tags
    ]
