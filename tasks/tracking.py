"""One training as one MLflow run. MLflow is imported when a run is opened: it is off the path to round 1."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import yaml

from configs import environment
from configs.plan import Plan
from federated.component import Metrics
from federated.errors import InputError, RefusedError, TrackingError
from tasks import embedded_mlflow
from tasks.reachability import require
from tasks.watching import tell

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PARAMS_A_BATCH, _METRICS_A_BATCH = 100, 1000
_RUN_KEY = "run_key"

FLOW_RUN = "prefect.flow_run_id"
"""The tag of a run that names the flow run of its latest attempt."""

START = "round-0.json"
"""The artifact of a run that has the record of its start."""
_PARAM_LENGTH = 6000  # MLflow's limit

_LOG_IN = {
    401: "does not accept the user and password; correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "does not allow it to the user in MLFLOW_TRACKING_USERNAME; ask its administrator for EDIT",
}
_MAY_PASS = (408, 425, 429)

_PATIENCE_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 15.0

Result = TypeVar("Result")

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
    # The first client makes the tables.
    with environment.lock("mlflow"), storing("experiments", verb="list"):
        if uri == environment.embedded_tracking_uri():
            embedded_mlflow.prepare()
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
        where, status = environment.without_secrets(environment.tracking_uri()), _status(error)
        if status in _LOG_IN:
            raise RefusedError(f"MLflow could not {verb} {what}: {where} {_LOG_IN[status]}") from error
        refused = status // 100 == 4 and status not in _MAY_PASS
        message = f"MLflow could not {verb} {what}: {first_line(error)}; check {where} and its disk"
        raise (RefusedError if refused else TrackingError)(message) from error


def _status(error: Exception) -> int:
    """The HTTP status that a server answered; 0 where it was no answer."""
    response = getattr(error, "response", None)  # of requests: artifacts
    if response is not None:
        return int(response.status_code)
    status: Callable[[], int] = getattr(error, "get_http_status_code", int)  # of MLflow
    return status()


def first_line(error: Exception) -> str:
    """One line; the first that says something."""
    lines = str(error).strip().splitlines()
    return next((line for line in lines if not line.startswith("(raised as a result of")), type(error).__name__)[:300]


def patiently(act: Callable[[], Result], cancelled: threading.Event) -> Result:
    """What ``act`` gives, once MLflow's server takes it: it may be away for ten minutes.

    ``act`` is done again after a failure, so it must find what it has done before. An embedded MLflow is not waited
    for: what it refuses once it refuses again.

    Raises:
        TrackingError: the server stays away, or ``cancelled`` is set.
    """
    deadline, pause = time.monotonic() + _PATIENCE_SECONDS, _FIRST_PAUSE_SECONDS
    waited = False
    while True:
        try:
            result = act()
        except RefusedError:
            raise
        except TrackingError as error:
            remote = environment.tracking_uri().startswith("http")
            if not waited and remote:
                tell(f"{error}; trying again for {_PATIENCE_SECONDS / 60:.0f} minutes, rounds wait on disk")
                waited = True
            if not remote or time.monotonic() + pause > deadline or cancelled.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        else:
            if waited:
                tell("MLflow answers again")
            return result


class Numbers(NamedTuple):
    """What a round measured, and when, in milliseconds since 1970; ``means`` is what its ε is one of."""

    metrics: Metrics
    round: int
    milliseconds: int
    means: str = ""


class TrackedRun:
    """An MLflow run that is open. Every call names its run: nothing depends on the thread."""

    def __init__(self, client: MlflowClient, experiment_id: str, run_id: str) -> None:
        self.client, self.experiment_id, self.run_id = client, experiment_id, run_id

    def log_metrics(self, metrics: Metrics, round: int, milliseconds: int) -> None:
        """Numbers of a round, in one request. The same numbers of the same time again change nothing."""
        self.log_rounds([Numbers(metrics, round, milliseconds)])

    def log_rounds(self, rounds: Sequence[Numbers]) -> None:
        """Numbers of several rounds, in as few requests as MLflow takes them."""
        from mlflow.entities import Metric, RunTag

        points = [
            Metric(name, value, one.milliseconds, one.round) for one in rounds for name, value in one.metrics.items()
        ]
        means = rounds[-1].means
        tags = [RunTag("epsilon_means", means)] if means else []
        with storing(f"the metrics of round {rounds[-1].round}"):
            for at in range(0, len(points), _METRICS_A_BATCH):
                self.client.log_batch(self.run_id, metrics=points[at : at + _METRICS_A_BATCH], tags=tags)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Gives the run tags, or other values of those that it has."""
        with storing("tags"):
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


def open_run(plan: Plan, run_key: str, flow_run_id: str) -> TrackedRun:
    """The run of the training ``run_key`` in the plan's experiment, with the plan as parameters and as a file.

    There is one, however often the training is begun.

    Raises:
        TrackingError: MLflow cannot be reached or cannot store it.
    """
    tags = {FLOW_RUN: flow_run_id, "plan_sha256": plan.digest(), **_git_commit()}
    if plan.simulation:
        tags["simulation"] = "true"
    if plan.algorithm.unit is not None:
        tags["noise"] = "from the operating system" if plan.algorithm.secret else "from the seed: a simulation"
    with storing("a new run"):
        client = connect()
        experiment_id = _experiment(client, plan.name)
        found = client.search_runs([experiment_id], f"tags.{_RUN_KEY} = '{run_key}'", max_results=1)
        run_id = found[0].info.run_id if found else None
        logged = found[0].data.params if found else {}
        if run_id is None:
            run = client.create_run(experiment_id, run_name=plan.name, tags=tags | {_RUN_KEY: run_key})
            run_id = run.info.run_id
        else:
            client.update_run(run_id, status="RUNNING")
    tracked = TrackedRun(client, experiment_id, run_id)
    try:
        tracked.set_tags(tags)
        _log_params(tracked, plan, logged)
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
            raise InputError(
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


def _log_params(tracked: TrackedRun, plan: Plan, logged: Mapping[str, str]) -> None:
    """Those that the run has stay: MLflow refuses other values. plan/plan.yaml is that of the latest attempt."""
    from mlflow.entities import Param

    flat = flatten(plan.model_dump(mode="json"))
    params = [Param(re.sub(r"[^\w. /-]", "_", name), value[:_PARAM_LENGTH]) for name, value in flat.items()]
    params = [param for param in params if param.key not in logged]
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
