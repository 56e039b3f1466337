"""Trainings that end early and go on, on a real Prefect API and a real MLflow."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Running

from configs import environment
from federated.errors import PlanError, StageError, TrackingError, TrainingError
from flows.train import train
from tasks import round_tasks
from tasks.replaying import replay
from tasks.signing import trusted_keys
from tasks.stored import Library
from tasks.summary import Summary
from tasks.tracking import RunStatus, TrackedRun, open_run
from tasks.training import RoundReport
from tasks.verifying import REMOVED, WEIGHTS, verify
from tasks.versions import RECORD
from tasks.watching import Unwatched, watched_by
from tests.flows.test_train import client, run_of, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")


def test_a_shard_that_dies_is_trained_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(small_plan()).weights_sha256
    from models.keras_engine import KerasEngine

    asked, really_fit = list[tuple[str, ...]](), KerasEngine.fit_cohort

    def dies_once(engine: Any, params: Any, clients: Any, *rest: Any) -> Any:
        asked.append(tuple(client.name for client in clients))
        if len(asked) == 3:
            raise MemoryError("no memory for this shard")
        yield from really_fit(engine, params, clients, *rest)

    monkeypatch.setattr(KerasEngine, "fit_cohort", dies_once)
    assert train(small_plan()).weights_sha256 == reference
    twice = [shard for shard in set(asked) if asked.count(shard) > 1]
    assert len(asked) == 1 + 3 * environment.workers()
    assert asked[2] in twice


def fails_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes aggregation of a round fail once; gives the rounds that were aggregated, as they come."""
    really, done = round_tasks.server_half, list[int]()

    def fails(algorithm: Any, state: Any, *rest: Any) -> Any:
        if state.round + 1 == number and number not in done:
            done.append(number)
            raise OSError("the disk was away")
        done.append(state.round + 1)
        return really(algorithm, state, *rest)

    monkeypatch.setattr(round_tasks, "server_half", fails)
    return done


def test_a_retried_flow_run_goes_on_after_its_last_round(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(small_plan()).weights_sha256
    done = fails_at(3, monkeypatch)
    summary = train.with_options(retries=1)(small_plan())
    assert done == [1, 2, 3, 3]
    assert summary.weights_sha256 == reference
    for name in ("loss", "seconds_round"):
        assert [point.step for point in client().get_metric_history(summary.run_id, name)] == [1, 2, 3]
    assert run_of(summary).info.status == "FINISHED"


def test_the_same_run_key_again_goes_on_and_then_gives_the_same_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    done = fails_at(2, monkeypatch)
    with pytest.raises(StageError, match="disk was away"):
        train(small_plan(), run_key="mine")
    summary = train(small_plan(), run_key="mine")
    assert done == [1, 2, 2, 3]
    assert train(small_plan(), run_key="mine") == summary
    runs = client().search_runs([run_of(summary).info.experiment_id], "tags.run_key = 'mine'")
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_a_version_that_is_refused_holds_up_those_behind_it_and_each_comes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    plan, really, done, waiting = small_plan("rounds=6"), MlflowClient.create_model_version, Done(), list[str]()

    def refuses(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        if kwargs["tags"]["round"] == "2" and not waiting:
            while len(done.rounds) < 4:  # others wait behind it
                time.sleep(0.01)
            waiting.append("refused")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "create_model_version", refuses)
    with pytest.raises(TrackingError, match="No space left on device"), watched_by(done):
        train(plan, run_key="mine")
    left = [version.tags["round"] for version in client().search_model_versions("name = 'quickstart'")]
    assert (waiting, left) == (["refused"], ["1"])
    train(plan, run_key="mine")
    found = client().search_model_versions("name = 'quickstart'")
    by_number = sorted(found, key=lambda version: int(version.version))
    assert [version.tags["round"] for version in by_number] == ["1", "2", "3", "4", "5", "6"]
    parents = [version.tags.get("parent_version") for version in by_number]
    assert parents == [None, *(str(version.version) for version in by_number[:-1])]


class Done(Unwatched):
    """Counts rounds."""

    def __init__(self) -> None:
        self.rounds: list[int] = []

    def round_done(self, report: RoundReport) -> None:
        self.rounds.append(report.round)


def test_a_run_that_was_killed_before_it_was_noted_is_crashed_once_its_key_is_used_again() -> None:
    dead, other = (seems_to_run("quickstart", key) for key in ("mine", "another"))
    with get_client(sync_client=True) as prefect:
        deployment = prefect.create_deployment(prefect.read_flow_run(dead).flow_id, "on-demand")
        served = prefect.create_flow_run_from_deployment(deployment, parameters={"run_key": "mine"}, name="quickstart")
        prefect.set_flow_run_state(served.id, Running(), force=True)
        train(small_plan("rounds=1"), run_key="mine")
        states = [prefect.read_flow_run(run).state_type for run in (dead, other, served.id)]
    assert states == ["CRASHED", "RUNNING", "RUNNING"]


def test_trainings_whose_machine_died_are_ended_by_the_next_one_that_is_deployed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan, here = small_plan("rounds=1"), seems_to_run("quickstart", "mine")
    with get_client(sync_client=True) as prefect:
        deployment = prefect.create_deployment(prefect.read_flow_run(here).flow_id, "on-demand")
        there = prefect.create_flow_run_from_deployment(deployment, name="quickstart").id
        prefect.set_flow_run_state(there, Running(), force=True)
        left = {run: open_run(plan, f"of {run}", str(run)).run_id for run in (here, there)}
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(deployment))
        own = train(plan)
        states = [prefect.read_flow_run(run).state_type for run in (here, there)]
    assert states == ["RUNNING", "CRASHED"]
    assert [client().get_run(left[run]).info.status for run in (here, there)] == ["RUNNING", "KILLED"]
    assert run_of(own).info.status == "FINISHED"


def seems_to_run(name: str, run_key: str) -> UUID:
    """A flow run of a process that is no more."""
    given = {"plan": small_plan().model_dump(mode="json"), "run_key": run_key}
    with get_client(sync_client=True) as prefect:
        run = prefect.create_flow_run(train, name=name, parameters=given, state=Running())
        prefect.set_flow_run_state(run.id, Running(), force=True)
    return run.id


def test_a_run_key_goes_on_with_another_plan_only_when_told_to() -> None:
    train(small_plan(), run_key="mine")
    longer = small_plan("rounds=4")
    with pytest.raises(PlanError, match=r"plan\.rounds: 3, now 4"):
        train(longer, run_key="mine")
    summary = train(longer, run_key="mine", accept_change=True)
    assert (summary.rounds, summary.weights_sha256) == (4, train(longer).weights_sha256)


BARE = "algorithm.transforms=[]"


def test_another_kind_goes_on_only_from_what_fits_it() -> None:
    for key, begun, others in (
        ("bare", "algorithm.rule={kind: mean}", ("server={kind: momentum}", "rule={kind: centered_clip, radius: 1.0}")),
        ("momentum", "algorithm.server={kind: momentum}", ("server={kind: adam, learning_rate: 0.01}",)),
        ("scaffold", "algorithm.correction={kind: scaffold}", ("correction={kind: feddyn, alpha: 0.1}",)),
    ):
        train(small_plan("rounds=1", BARE, begun), run_key=key)
        for other in others:
            part, *_ = other.partition("=")
            plan = small_plan("rounds=2", BARE, begun, f"algorithm.{other}")
            with pytest.raises(PlanError, match=rf"^algorithm\.{part}: was .* is .* now, which cannot go on from what"):
                train(plan, run_key=key, accept_change=True)


@pytest.mark.parametrize(
    ("begun", "other"),
    [
        pytest.param("algorithm.server={kind: momentum}", "algorithm.server={kind: sgd}", marks=pytest.mark.slow),
        ("algorithm.correction={kind: scaffold}", "algorithm.correction={kind: none}"),
        pytest.param("algorithm.rule={kind: mean}", "algorithm.rule={kind: median}", marks=pytest.mark.slow),
        (BARE, "algorithm.transforms=[{kind: clip, norm: 1.0}, {kind: quantise, bits: 8}]"),
    ],
    ids=["server", "correction", "rule", "transforms"],
)
def test_what_needs_nothing_goes_on_from_any_other_kind_and_replays(begun: str, other: str) -> None:
    train(small_plan("rounds=1", BARE, begun), run_key="mine")
    changed = train(small_plan("rounds=3", BARE, other), run_key="mine", accept_change=True)
    assert changed.rounds == 3
    assert all(replay(f"quickstart/{number}", trusted_keys()).agrees for number in (1, 2, 3))


# What the checkpoints lack


def checkpoint(kind: str, round: int) -> Path:
    """The one file of a round."""
    (found,) = (Path(environment.checkpoints()) / "quickstart" / "mine" / kind).glob(f"{round:06d}-*")
    return found


def lose(*rounds: int) -> None:
    """As an older back-up has it."""
    for number in rounds:
        checkpoint("records", number).unlink()
        checkpoint("states", number).unlink()


def lose_and_have_no_weights_of_the_first(*rounds: int) -> None:
    """Retention has removed them."""
    lose(*rounds)
    client().set_model_version_tag("quickstart", str(rounds[0]), REMOVED, "2026-01-01")
    Library().delete_files("quickstart", str(rounds[0]), WEIGHTS)


def tear(kind: str, round: int) -> None:
    path = checkpoint(kind, round)
    path.write_bytes(path.read_bytes()[:-1])


LOST: dict[str, tuple[Callable[[], None], list[str]]] = {
    "nothing": (lambda: None, []),
    "two rounds": (lambda: lose(2, 3), ["rounds 2 to 3 come from MLflow"]),
    "two rounds, one without weights": (
        lambda: lose_and_have_no_weights_of_the_first(2, 3),
        ["rounds 2 to 3 come from MLflow"],
    ),
    "a torn record": (lambda: tear("records", 3), ["round 3 comes from MLflow"]),
    "a torn record in the middle": (lambda: tear("records", 2), ["rounds 2 to 3 come from MLflow"]),
    "a torn state": (lambda: tear("states", 3), ["round 3 comes from MLflow"]),
}


SHORT = ("nothing", "two rounds, one without weights")
"""What stays in the short form of the test."""


@pytest.mark.parametrize(
    ("spoil", "said"),
    [pytest.param(*lost, id=name, marks=() if name in SHORT else pytest.mark.slow) for name, lost in LOST.items()],
)
def test_what_the_checkpoints_lack_comes_from_mlflow(
    spoil: Callable[[], None], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done, plan = fails_at(4, monkeypatch), small_plan("rounds=4")
    with pytest.raises(StageError, match="disk was away"):
        train(plan, run_key="mine")
    before = [found.tags["record_sha256"] for found in versions_of("quickstart")]
    spoil()
    with watched_by(noted := Noted()):
        summary = train(plan, run_key="mine")
    assert (done, noted.texts) == ([1, 2, 3, 4, 4], said)
    versions = versions_of("quickstart")
    assert [found.tags["round"] for found in versions] == ["1", "2", "3", "4"]
    assert [found.tags["record_sha256"] for found in versions][:3] == before
    assert [verify(f"quickstart/{found.version}", trusted_keys()).faults for found in versions] == [[]] * 4
    assert train(plan, run_key="mine") == summary
    undisturbed = train(plan)
    assert summary.weights_sha256 == undisturbed.weights_sha256
    assert numbers(summary) == numbers(undisturbed)


def numbers(summary: Summary) -> dict[str, Any]:
    """What does not change from one training to the same again."""
    return summary.model_dump(exclude={"run_id", "model_version", "seconds"})


class Noted(Unwatched):
    """What a person was told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notes(self, text: str) -> None:
        self.texts.append(text)


def test_the_summary_of_a_finished_training_comes_back_though_its_last_record_is_damaged() -> None:
    summary = train(small_plan(), run_key="mine")
    tear("records", 3)
    assert train(small_plan(), run_key="mine") == summary


def test_a_record_in_mlflow_that_does_not_follow_is_not_taken_and_its_round_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails_at(4, monkeypatch)
    with pytest.raises(StageError, match="disk was away"):
        train(small_plan("rounds=4"), run_key="mine")
    lose(2, 3)
    stored_file("2", RECORD).write_bytes(stored_file("3", RECORD).read_bytes())
    line = "round 2: quickstart version 2 has another record of it than the checkpoints; train again with another run"
    with pytest.raises(TrainingError, match=f"^{line}"):
        train(small_plan("rounds=4"), run_key="mine")
    assert len(versions_of("quickstart")) == 3


def test_mlflow_is_waited_for_and_a_training_that_begins_asks_it_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, really = list[str](), Library.of_training

    def away_once(library: Library, name: str, run_key: str) -> dict[int, str]:
        asked.append(run_key)
        if len(asked) == 1:
            raise TrackingError("MLflow is away")
        return really(library, name, run_key)

    monkeypatch.setattr(Library, "of_training", away_once)
    monkeypatch.setattr("tasks.recovering.patiently", lambda act, _: patiently_here(act))
    fails_at(3, monkeypatch)
    with pytest.raises(StageError, match="disk was away"):
        train(small_plan(), run_key="mine")
    assert asked == []
    lose(2)
    train(small_plan(), run_key="mine")
    assert asked == ["mine", "mine"]


def patiently_here(act: Callable[[], Any]) -> Any:
    """An embedded MLflow is waited for, too."""
    try:
        return act()
    except TrackingError:
        return act()


def test_a_run_key_whose_checkpoints_are_gone_is_refused_and_its_versions_still_verify() -> None:
    train(small_plan(), run_key="mine")
    shutil.rmtree(Path(environment.checkpoints()) / "quickstart" / "mine")
    line = "run key mine: MLflow has another training of it; train again with another run key"
    with pytest.raises(TrainingError, match=f"^{line}$"):
        train(small_plan(), run_key="mine")
    assert [verify(f"quickstart/{number}", trusted_keys()).faults for number in (1, 2, 3)] == [[]] * 3


def test_the_end_of_a_run_waits_for_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, really = list[str](), TrackedRun.close

    def away_once(run: TrackedRun, status: RunStatus) -> None:
        asked.append(status)
        if len(asked) == 1:
            raise TrackingError("MLflow is away")
        really(run, status)

    monkeypatch.setattr(TrackedRun, "close", away_once)
    monkeypatch.setattr("flows.registration.patiently", lambda act, _: patiently_here(act))
    assert run_of(train(small_plan())).info.status == "FINISHED"
    assert asked == ["FINISHED", "FINISHED"]


def test_a_run_that_failed_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def away(run: TrackedRun, status: RunStatus) -> None:
        asked.append(status)
        raise TrackingError("MLflow is away")

    monkeypatch.setattr(TrackedRun, "close", away)
    fails_at(2, monkeypatch)
    with pytest.raises(StageError, match="disk was away"):
        train(small_plan())
    assert asked == ["FAILED"]
