"""Trainings that end early and go on, on a real Prefect API and a real MLflow."""

from __future__ import annotations

import errno
import os
import time
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Running

from configs import environment
from federated.errors import PlanError, TrackingError
from flows.train import train
from tasks import round_tasks
from tasks.tracking import open_run
from tasks.training import RoundReport
from tasks.watching import Unwatched, watched_by
from tests.flows.test_train import client, run_of, small_plan

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

    def fails(algorithm: Any, state: Any, updates: Any) -> Any:
        if state.round + 1 == number and number not in done:
            done.append(number)
            raise OSError("the disk was away")
        done.append(state.round + 1)
        return really(algorithm, state, updates)

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
    with pytest.raises(OSError, match="disk was away"):
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
