"""The points at which a training can be made to die: functions of the product, or of MLflow, by their names."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos import wraps
from tests.chaos.wraps import Wrap

_WRITE = "tasks.versions:VersionWriter.write"
SELECT = "tasks.round_tasks:select"
_CLIENT = "mlflow.tracking.client:MlflowClient"


class Point(NamedTuple):
    """What dies there in words, the function's place, how it is wrapped, and the function that knows the round.

    ``where`` is empty where the process dies after a time, whatever it does then.
    """

    says: str
    where: str
    wrap: Wrap
    round_of: str = ""


POINTS = {
    "startup": Point("tenths of a second after the start", "", wraps.before),
    "attempt-unnoted": Point("flow run made, not yet noted", "tasks.attempts:Attempts.note", wraps.before),
    "going-on": Point("state read again, nothing done", "tasks.course:Course.go_on", wraps.after),
    "dead-ended": Point("one of the dead flow runs ended", "flows.dead_runs:_end", wraps.after),
    "tables": Point("MLflow's tables half made", "mlflow.store.db.utils:_upgrade_db", wraps.a_while_after),
    "run-made": Point("MLflow run made, without parameters", f"{_CLIENT}.create_run", wraps.after),
    "training": Point("in the middle of local training", "federated.rounds:_learnt", wraps.third, SELECT),
    "aggregated": Point("aggregated, no state written", "tasks.journal:Journal.commit", wraps.before),
    "half-a-state": Point("half of a state written", "tasks.store:_write_whole", wraps.half_a_file("states")),
    "state": Point("state written, no record", "tasks.journal:Journal._write_record", wraps.before),
    "half-a-record": Point("half of a record written", "tasks.store:_write_whole", wraps.half_a_file("records")),
    "recorded": Point("recorded, not registered", "flows.registration:Registration.submit", wraps.before),
    "metrics": Point("metrics logged, no logged model", _WRITE, wraps.before),
    "model-made": Point("logged model made, empty", f"{_CLIENT}.create_logged_model", wraps.after),
    "half-an-upload": Point(
        "some files uploaded, one half",
        "mlflow.store.artifact.artifact_repository_registry:get_artifact_repository",
        wraps.half_an_upload,
        _WRITE,
    ),
    "uploaded": Point("uploaded, not finalized", f"{_CLIENT}.finalize_logged_model", wraps.before, _WRITE),
    "finalized": Point("finalized, no version", f"{_CLIENT}.create_model_version", wraps.before),
    "version-made": Point("version made, nobody told", f"{_CLIENT}.create_model_version", wraps.after),
    "figures": Point("results half published", "tasks.tracking:TrackedRun.log_file", wraps.after_a_figure),
    "summary": Point("summary published, run open", "flows.train:publish_summary", wraps.after),
    "half-a-result": Point("half of the result written", "tasks.store:_write_whole", wraps.half_a_file("results")),
    "unfinished": Point("before the journal's finish", "tasks.journal:Journal.finish", wraps.before),
    "unclosed": Point("before the MLflow run is closed", "tasks.tracking:TrackedRun.close", wraps.before),
    "closed": Point("after the MLflow run is closed", "tasks.tracking:TrackedRun.close", wraps.after),
    "moment": Point("tenths of a second into the rounds", SELECT, wraps.a_while_after),
    "run-unanswered": Point("answer lost: create_run", f"{_CLIENT}.create_run", wraps.unanswered),
    "model-unanswered": Point("answer lost: create_logged_model", f"{_CLIENT}.create_logged_model", wraps.unanswered),
    "metrics-unanswered": Point(
        "answer lost: log_batch", f"{_CLIENT}.log_batch", wraps.unanswered, "tasks.tracking:TrackedRun.log_metrics"
    ),
    "version-unanswered": Point(
        "answer lost: create_model_version", f"{_CLIENT}.create_model_version", wraps.unanswered
    ),
    "refused": Point("a version refused", f"{_CLIENT}.create_model_version", wraps.refused),
    "leased": Point("never, a place leased for so many seconds", "flows.one_at_a_time:concurrency", wraps.leased_for),
    "slowly": Point("never, rounds tenths of a second longer", SELECT, wraps.slowed),
    "nowhere": Point("never", "", wraps.before),
}
"""By the name that the command line takes."""
