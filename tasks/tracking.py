"""One training as one MLflow run. MLflow is imported when a run is opened: it is off the path to round 1."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from configs import environment
from configs.plan import Plan
from federated.component import Metrics
from federated.errors import InputError, TrackingError
from tasks.reachability import require

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_A_BATCH = 100
_PARAM_LENGTH = 6000  # MLflow's limit

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


def require_mlflow() -> None:
    """Says early, without importing MLflow, that its server cannot be reached.

    Raises:
        TrackingError: a server is configured and does not answer.
    """
    uri = environment.tracking_uri()
    if uri.startswith("http"):
        require(f"{uri.rstrip('/')}/health", "MLflow", "MLFLOW_TRACKING_URI", TrackingError)


def connect() -> MlflowClient:
    """A client of the configured MLflow, and no other: also what this process' other MLflow calls use."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    import mlflow

    uri = environment.tracking_uri()
    registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or uri
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(registry_uri)
    with environment.lock("mlflow"):  # the first client makes the tables
        if uri == environment.embedded_tracking_uri():
            environment.write_ahead()
        client = mlflow.MlflowClient(uri, registry_uri)
        client.search_experiments(max_results=1)
    return client


@contextlib.contextmanager
def storing(what: str, verb: str = "store") -> Iterator[None]:
    """Turns whatever MLflow, its database or the disk raise into one line.

    Raises:
        TrackingError: ``what`` could not be stored.
    """
    try:
        yield
    except (InputError, TrackingError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        where = environment.without_secrets(environment.tracking_uri())
        raise TrackingError(f"MLflow could not {verb} {what}: {reason}; check {where} and its disk") from error


class TrackedRun:
    """An MLflow run that is open. Every call names its run: nothing depends on the thread."""

    def __init__(self, client: MlflowClient, experiment_id: str, run_id: str) -> None:
        self.client, self.experiment_id, self.run_id = client, experiment_id, run_id

    def log_round(self, round: int, metrics: Metrics) -> None:
        """All numbers of a round, in one request."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        batch = [Metric(name, value, now, round) for name, value in metrics.items()]
        with storing(f"the metrics of round {round}"):
            self.client.log_batch(self.run_id, metrics=batch)

    def log_results(self, metrics: Metrics, tags: Mapping[str, str]) -> None:
        """What is known at the end."""
        with storing("the results"):
            for name, value in metrics.items():
                self.client.log_metric(self.run_id, name, value)
            for name, text in tags.items():
                self.client.set_tag(self.run_id, name, text)

    def log_file(self, name: str, content: bytes) -> None:
        """An artifact called ``name``, folders included."""
        with tempfile.TemporaryDirectory() as folder, storing(name):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            self.client.log_artifacts(self.run_id, folder)

    def close(self, status: RunStatus) -> None:
        """Ends the run; it stays as it is afterwards."""
        with storing("the end of the run"):
            self.client.set_terminated(self.run_id, status)


def open_run(plan: Plan, flow_run_id: str) -> TrackedRun:
    """A new run in the plan's experiment, with the plan as parameters and as a file.

    Raises:
        TrackingError: MLflow cannot be reached or cannot store it.
    """
    with storing("a new run"):
        client = connect()
        experiment_id = _experiment(client, plan.name)
        tags = {"prefect.flow_run_id": flow_run_id, "plan_sha256": plan.digest(), **_git_commit()}
        run = client.create_run(experiment_id, run_name=plan.name, tags=tags)
    tracked = TrackedRun(client, experiment_id, run.info.run_id)
    try:
        _log_params(tracked, plan)
        tracked.log_file("plan/plan.yaml", plan_yaml(plan).encode())
    except Exception:
        tracked.close("FAILED")
        raise
    return tracked


def plan_yaml(plan: Plan) -> str:
    """The whole plan, defaults included, as YAML."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False)


def flatten(fields: Any, prefix: str = "") -> dict[str, str]:
    """Nested fields as one level with dotted names."""
    if isinstance(fields, dict) and fields:
        items = list(fields.items())
    elif isinstance(fields, list) and any(isinstance(item, dict) for item in fields):
        items = list(enumerate(fields))
    else:
        return {prefix: str(fields)}
    flat: dict[str, str] = {}
    for name, value in items:
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"the MLflow experiment {name!r} is deleted; restore it (mlflow experiments restore "
                f"--experiment-id {found.experiment_id}), or give the plan another name"
            )
        return str(found.experiment_id)
    try:
        root = environment.artifact_root()
        location = None if root is None else f"{root}/{name}"
        tags = {"mlflow.experimentKind": "custom_model_development"}  # the view for training, not for prompts
        return str(client.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another training was faster
        if found is None:
            raise
        return str(found.experiment_id)


def _log_params(tracked: TrackedRun, plan: Plan) -> None:
    from mlflow.entities import Param

    flat = flatten(plan.model_dump(mode="json"))
    params = [Param(re.sub(r"[^\w. /-]", "_", name), value[:_PARAM_LENGTH]) for name, value in flat.items()]
    with storing("the plan"):
        for at in range(0, len(params), _PARAMS_A_BATCH):
            tracked.client.log_batch(tracked.run_id, params=params[at : at + _PARAMS_A_BATCH])


def _git_commit() -> dict[str, str]:
    """The commit of the code that trains, under MLflow's own tag; nothing outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"mlflow.source.git.commit": shown.stdout.strip()}
