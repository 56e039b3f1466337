"""Trainings that end early and go on, on a real Prefect API and a real MLflow."""

from __future__ import annotations

from typing import Any

import pytest

from configs import environment
from federated.errors import PlanError
from flows.train import train
from tasks import round_tasks
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


def test_a_run_key_goes_on_with_another_plan_only_when_told_to() -> None:
    train(small_plan(), run_key="mine")
    longer = small_plan("rounds=4")
    with pytest.raises(PlanError, match=r"plan\.rounds: 3, now 4"):
        train(longer, run_key="mine")
    summary = train(longer, run_key="mine", accept_change=True)
    assert (summary.rounds, summary.weights_sha256) == (4, train(longer).weights_sha256)
