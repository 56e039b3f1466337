"""MLflow's part in a training, beside it: opening the run, and a version for every round."""

from __future__ import annotations

import time
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from federated.component import Vector
from tasks.summary import Summary
from tasks.tracking import TrackedRun, open_run
from tasks.training import At, RoundReport, Sealed, Training
from tasks.versions import VersionWriter


class Registrar:
    """An open MLflow run and the writer of its versions."""

    def __init__(self, run: TrackedRun, versions: VersionWriter) -> None:
        self.run, self.versions = run, versions


@task(task_run_name="open_run {plan}", cache_policy=NO_CACHE, persist_result=False)
def open_tracking(training: Training, plan: str, flow_run_id: str) -> Sealed[Registrar]:
    """Opens the MLflow run, while the first round trains."""
    run = open_run(training.plan, flow_run_id)
    try:
        return Sealed(Registrar(run, VersionWriter(training, run)))
    except Exception:
        run.close("FAILED")
        raise


@task(task_run_name="register_model {at}", cache_policy=NO_CACHE, persist_result=False)
def register_model(registrar: Sealed[Registrar], at: At, params: Vector, report: Sealed[RoundReport]) -> str:
    """Logs the round's numbers and registers its model, while the next round trains; gives the version."""
    began = time.perf_counter()
    version = registrar.value.versions.write(at.round, params, report.value.cohort)
    seconds = {"seconds_register": time.perf_counter() - began}
    registrar.value.run.log_round(at.round, report.value.metrics | seconds)
    return version


@task(task_run_name="publish_results {summary.plan}", cache_policy=NO_CACHE, persist_result=False)
def publish_results(
    registrar: Sealed[Registrar],
    training: Training,
    params: Vector,
    summary: Summary,
    reports: Sealed[list[RoundReport]],
) -> None:
    """The final numbers, the table of clients and the figures, into the MLflow run."""
    from tasks import figures  # Matplotlib is not needed before

    run, served = registrar.value.run, registrar.value.versions.served
    tags = {
        "stop_reason": summary.stop_reason,
        "weights_sha256": summary.weights_sha256,
        "model_version": summary.model_version,
    }
    by_round = reports.value[-1].metrics
    run.log_results({name: value for name, value in summary.metrics.items() if name not in by_round}, tags)
    run.log_file("summary.json", summary.model_dump_json(indent=2).encode())
    for name, picture in figures.draw(training.federation, reports.value, partial(served.predict, params)):
        run.log_file(f"figures/{name}.png", picture)
