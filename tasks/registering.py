"""MLflow's part in a training, beside it: opening the run, the numbers of rounds, and a version for every block."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from federated.errors import TrackingError, TrainingError
from tasks.course import Course
from tasks.drifting import REFERENCE, reference_bytes
from tasks.journal import Journal
from tasks.model_card import model_card, shortened
from tasks.records import Block, Committed, in_blocks
from tasks.signing import ForgedError, Signer, read_signed
from tasks.store import DamagedError
from tasks.stored import Library
from tasks.summary import Summary
from tasks.tracking import START, Numbers, TrackedRun, open_run, patiently, storing
from tasks.training import At, Sealed, Training
from tasks.versions import CANDIDATE, VersionWriter


class Registrar:
    """An open MLflow run and the writer of its versions."""

    def __init__(self, training: Training, run: TrackedRun, versions: VersionWriter) -> None:
        self._cancelled = training.cancelled
        self.run, self.versions = run, versions

    def register(self, journal: Journal, committed: Committed, before: Sequence[Committed] = ()) -> str:
        """A round's numbers and its model, and the numbers of the interim rounds ``before`` it; gives the version.

        What is there already is not written again.

        Raises:
            TrackingError: MLflow refused, or stayed away for too long.
            TrainingError: the round's checkpoint was damaged before it was registered, or MLflow has another record
                of the round.
        """
        try:
            return patiently(partial(self._register, journal, Block(tuple(before), committed)), self._cancelled)
        except DamagedError as error:
            raise TrainingError(f"round {committed.round}: {error}; train again with another run key") from error

    def _register(self, journal: Journal, block: Block) -> str:
        try:
            version = self.versions.known(block)
            if version is not None:
                return version
            self.run.log_rounds([_numbers(one) for one in (*block.before, block.last)])
            return self.versions.write(block.last, journal.state_bytes(block.last.round), block.before)
        except TrackingError:
            self.versions.look_first()
            raise


def _numbers(committed: Committed) -> Numbers:
    record = committed.record
    means = record.get("privacy", {}).get("means", "")
    return Numbers(record["report"]["metrics"], committed.round, record["milliseconds"], means)


@task(task_run_name="open_run {training.plan.name}", cache_policy=NO_CACHE, persist_result=False)
def open_tracking(
    training: Training, run_key: str, flow_run_id: str, signer: Sealed[Signer], start: Sealed[Committed]
) -> Sealed[Registrar]:
    """Opens the MLflow run, while the first round trains.

    Raises:
        TrackingError: MLflow refused, or stayed away for too long.
        TrainingError: MLflow has another training of this run key.
    """
    run = patiently(lambda: open_run(training.plan, run_key, flow_run_id), training.cancelled)
    try:
        patiently(partial(_log_start, run, start.value), training.cancelled)
        return Sealed(Registrar(training, run, VersionWriter(training, run, start.value, signer.value)))
    except Exception:
        run.close("FAILED")
        raise


def _log_start(run: TrackedRun, start: Committed) -> None:
    """The record of the start. That of another is not written over: its versions name it."""
    there = Library().run_file(run.run_id, START)
    if there != start.signed:
        with contextlib.suppress(ForgedError):  # what a killed process left half written
            key = read_signed(there, "record")["run_key"]
            raise TrainingError(f"run key {key}: MLflow has another training of it; train again with another run key")
        run.log_file(START, start.signed)


@task(task_run_name="register_model {at}", cache_policy=NO_CACHE, persist_result=False)
def register_model(
    registrar: Sealed[Registrar], at: At, journal: Sealed[Journal], rounds: Sealed[Sequence[Committed]]
) -> str:
    """Logs the numbers of rounds and registers their models, while the next ones train; gives the latest version."""
    blocks = in_blocks(rounds.value, journal.value.is_interim)
    return [registrar.value.register(journal.value, block.last, block.before) for block in blocks][-1]


@task(task_run_name="publish_results {summary.plan}", cache_policy=NO_CACHE, persist_result=False)
def publish_results(
    registrar: Sealed[Registrar],
    training: Training,
    summary: Summary,
    course: Sealed[Course],
) -> None:
    """The final numbers, the table of clients and the figures, into the MLflow run."""
    from tasks import figures  # Matplotlib is not needed before

    run, served = registrar.value.run, registrar.value.versions.served
    tags = {
        "stop_reason": summary.stop_reason,
        "weights_sha256": summary.weights_sha256,
        "model_version": summary.model_version,
        "compilation": training.engine.compilation,
        "device": training.engine.device,
    }
    reports, params = course.value.reports, course.value.state.params
    by_round = reports[-1].metrics
    results = {name: value for name, value in summary.metrics.items() if name not in by_round}
    card = model_card(training, params, reports, summary)
    files = {"summary.json": summary.model_dump_json(indent=2).encode(), "model-card.md": card.encode()}
    files[REFERENCE] = reference_bytes(training.federation)
    drawn = figures.draw(training.plan, training.federation, reports, partial(served.predict, params))
    files |= {f"figures/{name}.png": picture for name, picture in drawn}

    def publish() -> None:
        run.log_metrics(results, 0, course.value.milliseconds)
        if course.value.measured:
            run.log_metrics(course.value.measured, reports[-1].round, course.value.milliseconds)
        run.set_tags(tags)
        with storing("the model card and the alias candidate"):
            run.client.update_model_version(summary.model_name, summary.model_version, description=shortened(card))
            run.client.set_registered_model_alias(summary.model_name, CANDIDATE, summary.model_version)
        for name, content in files.items():
            run.log_file(name, content)

    patiently(publish, training.cancelled)
