"""Rounds that are committed together: the same bits and numbers as one by one, and fewer versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from configs import environment
from configs.plan import Plan
from federated.errors import TrainingError
from flows.train import train
from tasks import round_tasks
from tasks.replaying import replay
from tasks.retaining import remove_weights
from tasks.signing import trusted_keys
from tasks.stored import Library
from tasks.summary import Summary
from tasks.verifying import verify
from tasks.versions import BEFORE
from tasks.watching import watched_by
from tests.flows.test_going_on import Done, Noted, checkpoint, numbers, tear
from tests.flows.test_train import Interrupter, client, only_run, run_of, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")


def plan_of(*overrides: str) -> Plan:
    """Seven rounds, three at a time."""
    return small_plan("rounds=7", "commit_every=3", *overrides)


def records(run_key: str) -> list[dict[str, Any]]:
    """Everything on disk that rounds recorded, oldest first."""
    folder = Path(environment.checkpoints()) / "quickstart" / run_key / "records"
    return [json.loads(path.read_text())["said"] for path in sorted(folder.iterdir())]


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """What a record says that is the same in every training of the plan."""
    metrics = {
        name: value for name, value in record.get("report", {}).get("metrics", {}).items() if "seconds" not in name
    }
    names = ("round", "weights_sha256", "state", "state_sha256", "plan_sha256")
    return {name: record[name] for name in names} | {"metrics": metrics}


def rounds_of(found: list[Any]) -> list[int]:
    return [int(version.tags["round"]) for version in found]


def rounds_with_a_version() -> list[int]:
    return rounds_of(versions_of("quickstart"))


def assert_sound(summary: Summary) -> None:
    """Every version verifies, its records are all there, and it comes out with the same bits."""
    for version in versions_of("quickstart"):
        found = verify(f"quickstart/{version.version}", trusted_keys())
        assert (found.faults, found.rounds) == ([], int(version.tags["round"]))
    again = replay("quickstart@latest", trusted_keys())
    assert (again.agrees, again.computed, again.differing) == (True, summary.weights_sha256, ())


@pytest.mark.parametrize(("every", "ends"), [(3, [3, 6, 7]), pytest.param(50, [7], marks=pytest.mark.slow)])
def test_every_round_has_the_bits_and_the_record_of_rounds_one_by_one(every: int, ends: list[int]) -> None:
    train(small_plan("rounds=7", "algorithm.transforms.0.norm=0.3"), run_key="one")
    before = len(versions_of("quickstart"))
    plan = plan_of(f"commit_every={every}", "algorithm.transforms.0.norm=0.3")
    with watched_by(done := Done()):
        summary = train(plan, run_key="blocks")
    assert [lasting(found) for found in records("blocks")] == [lasting(found) for found in records("one")]
    assert [found["round"] for found in records("blocks") if "interim" not in found] == [0, *ends]
    assert done.rounds == list(range(1, 8))
    versions = versions_of("quickstart")[before:]
    assert rounds_of(versions) == ends
    assert [found.tags.get("parent_version") for found in versions] == [None, *(str(v.version) for v in versions[:-1])]
    for name in ("loss", "client_accuracy_worst", "seconds_round", "seconds_train", "bytes_up"):
        points = client().get_metric_history(summary.run_id, name)
        assert [point.step for point in points] == list(range(1, 8))
        assert sorted({point.timestamp for point in points}) == [point.timestamp for point in points]
    assert_sound(summary)


def test_a_version_has_the_records_of_the_rounds_before_it_and_a_change_in_one_is_found() -> None:
    train(plan_of())
    folder = stored_file("2", BEFORE)
    assert sorted(path.name for path in folder.iterdir()) == ["000004.json", "000005.json"]
    assert not stored_file("3", BEFORE).exists()
    shutil.copy(folder / "000004.json", folder / "000005.json")
    assert verify("quickstart/2", trusted_keys()).faults == [
        f"{BEFORE}/000005.json: changed",
        "round 5: the record is not the one that round 6 names",
    ]
    (folder / "000005.json").unlink()
    assert f"{BEFORE}/000005.json: missing" in verify("quickstart/2", trusted_keys()).faults
    assert verify("quickstart/3", trusted_keys()).faults == ["round 5: the record is not the one that round 6 names"]
    assert verify("quickstart/1", trusted_keys()).faults == []


def test_prefect_sees_one_task_for_a_block() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from tests.flows.test_train import _wait_for_names

    state = train(plan_of(), return_state=True)
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as api:
        names = _wait_for_names(api, chosen, "publish_results quickstart")
    blocks = [f"run_rounds quickstart rounds {span}" for span in ("1-3", "4-6", "7-7")]
    assert sorted(name for name in names if "round" in name.split()[0]) == blocks
    assert not [name for name in names if name.startswith(("select", "train_clients", "clip", "aggregate", "evaluate"))]


@pytest.mark.parametrize("workers", ["3"])
def test_the_number_of_workers_does_not_change_the_bits(workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(small_plan("rounds=4")).weights_sha256
    monkeypatch.setenv("ROUNDHOUSE_WORKERS", workers)
    assert train(small_plan("rounds=4", "commit_every=3")).weights_sha256 == reference


def test_a_stop_condition_ends_a_block_at_its_round() -> None:
    stop = "stop={metric: loss, patience: 2, min_delta: 10}"
    alone = train(small_plan("rounds=7", stop))
    summary = train(plan_of("commit_every=5", stop), run_key="mine")
    assert (alone.rounds, alone.stop_reason) == (summary.rounds, summary.stop_reason) == (3, "patience")
    assert summary.weights_sha256 == alone.weights_sha256
    assert rounds_with_a_version() == [1, 2, 3, 3]
    assert [found.get("interim", False) for found in records("mine")] == [False, True, True, False]
    assert checkpoint("states", 3).exists()
    assert_sound(summary)


def dies_in(number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Makes aggregation of a round fail once; gives the rounds that were aggregated, as they come."""
    really, done = round_tasks.server_half, list[int]()

    def dying(algorithm: Any, state: Any, *rest: Any) -> Any:
        done.append(state.round + 1)
        if done.count(number) == 1 and state.round + 1 == number:
            raise error
        return really(algorithm, state, *rest)

    monkeypatch.setattr(round_tasks, "server_half", dying)
    return done


@pytest.mark.slow
def test_rounds_that_were_over_when_a_block_failed_are_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(small_plan("rounds=7"))
    done = dies_in(6, TrainingError("round 6 is not to be"), monkeypatch)
    with pytest.raises(TrainingError, match="round 6 is not to be"):
        train(plan_of(), run_key="mine")
    assert rounds_with_a_version()[7:] == [3, 5]
    with watched_by(noted := Noted()):
        summary = train(plan_of(), run_key="mine")
    assert (done, noted.texts) == ([1, 2, 3, 4, 5, 6, 6, 7], [])
    assert rounds_with_a_version()[7:] == [3, 5, 6, 7]
    assert numbers(summary) == numbers(reference)
    for name in ("loss", "seconds_round"):
        steps = [point.step for point in client().get_metric_history(summary.run_id, name)]
        assert steps == list(range(1, 8))
    assert_sound(summary)


def test_a_round_that_dies_of_what_may_pass_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = train(small_plan("rounds=7"))
    done = dies_in(5, MemoryError("no memory"), monkeypatch)
    summary = train(plan_of(), run_key="mine")
    assert done == [1, 2, 3, 4, 5, 5, 6, 7]
    assert rounds_with_a_version()[7:] == [3, 6, 7]
    assert numbers(summary) == numbers(reference)


def test_ctrl_c_in_a_block_keeps_the_rounds_that_were_over(monkeypatch: pytest.MonkeyPatch) -> None:
    done = dies_in(5, KeyboardInterrupt(), monkeypatch)
    state = train(plan_of(), run_key="mine", return_state=True)
    assert state.is_cancelled()
    only_run("KILLED")
    assert rounds_with_a_version() == [3, 4]
    summary = train(plan_of(), run_key="mine")
    assert done == [1, 2, 3, 4, 5, 5, 6, 7]
    assert rounds_with_a_version() == [3, 4, 6, 7]
    assert_sound(summary)
    assert summary.weights_sha256 == train(small_plan("rounds=7")).weights_sha256


def test_ctrl_c_between_blocks_leaves_whole_blocks() -> None:
    with watched_by(Interrupter()):  # when it hears of round 2, the block is committed
        state = train(plan_of(), run_key="mine", return_state=True)
    assert state.is_cancelled()
    assert rounds_with_a_version() == [3]


def killed_after_writing(records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more comes to the disk, as if the process had been killed."""
    really, written = Path.replace, list[Path]()

    def dying(temporary: Path, path: Path) -> Path:
        if len(written) == records:
            raise SystemExit
        if path.parent.name == "records":
            written.append(path)
        return really(temporary, path)

    with monkeypatch.context() as killed:
        killed.setattr(Path, "replace", dying)
        with pytest.raises(SystemExit):
            train(plan_of(), run_key="mine")


@pytest.mark.parametrize(("written", "every"), [(5, 3), pytest.param(5, 1, marks=pytest.mark.slow)])
def test_a_kill_in_the_middle_of_a_commit_goes_on_with_the_same_bits_and_records(
    written: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records 0 to 3 are a block, 4 and 5 are interim rounds of the next."""
    killed_after_writing(written, monkeypatch)
    before = records("mine")
    assert [found["round"] for found in before] == list(range(written))
    with watched_by(noted := Noted()):
        summary = train(plan_of(f"commit_every={every}"), run_key="mine")
    assert noted.texts == []
    after = records("mine")
    assert after[:written] == before
    assert [found["round"] for found in after] == list(range(8))
    assert_sound(summary)
    assert len(client().get_metric_history(summary.run_id, "loss")) == 7
    assert summary.weights_sha256 == train(small_plan("rounds=7")).weights_sha256


def test_a_damaged_checkpoint_falls_back_by_a_block_and_only_it_is_said_to_be_damaged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_in(7, TrainingError("round 7 is not to be"), monkeypatch)
    with pytest.raises(TrainingError):
        train(plan_of(), run_key="mine")
    monkeypatch.setattr("tasks.recovering._take_state", lambda *_: [])  # MLflow has it
    tear("states", 6)
    before = records("mine")
    with watched_by(noted := Noted()):
        summary = train(plan_of(), run_key="mine")
    (said,) = noted.texts
    assert "000006-" in said
    assert "is damaged" in said
    assert records("mine")[:7] == before
    assert rounds_with_a_version() == [3, 6, 7]
    assert_sound(summary)


@pytest.mark.parametrize("lost", [pytest.param((2, 3), marks=pytest.mark.slow), (4, 5, 6)], ids=str)
def test_what_the_checkpoints_lack_of_a_block_comes_from_mlflow(
    lost: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = dies_in(7, TrainingError("round 7 is not to be"), monkeypatch)
    with pytest.raises(TrainingError):
        train(plan_of(), run_key="mine")
    before = records("mine")
    for number in lost:
        checkpoint("records", number).unlink()
        if number % 3 == 0:
            checkpoint("states", number).unlink()
    with watched_by(noted := Noted()):
        summary = train(plan_of(), run_key="mine")
    assert done == [1, 2, 3, 4, 5, 6, 7, 7]
    assert len(noted.texts) == 1
    assert noted.texts[0].endswith("from MLflow")
    assert records("mine")[:7] == before
    assert rounds_with_a_version() == [3, 6, 7]
    assert summary.weights_sha256 == train(small_plan("rounds=7")).weights_sha256


def test_replay_goes_over_the_rounds_of_the_block_and_names_the_first_that_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dataclasses import replace

    from federated import loop

    train(plan_of())
    found = replay("quickstart/2", trusted_keys())
    assert (found.agrees, found.round, found.since) == (True, 6, 3)
    assert list(found.lines())[:2] == [
        "quickstart version 2, round 6",
        "computed from round 3: no round between has weights",
    ]
    really = loop.encode

    def other(algorithm: Any, round: int, *rest: Any) -> Any:
        trained = really(algorithm, round, *rest)
        update = trained.update
        return trained._replace(update=replace(update, delta=2 * update.delta)) if round == 5 else trained

    monkeypatch.setattr(loop, "encode", other)
    found = replay("quickstart/2", trusted_keys())
    assert (found.agrees, found.version, found.round) == (False, "2", 5)


def test_retention_keeps_a_block_for_every_so_many_rounds_and_all_that_is_known() -> None:
    plan = plan_of("rounds=12", "commit_every=2", "retention={kind: every, rounds: 5}")
    summary = train(plan)
    assert sorted(remove_weights.fn(plan)) == ["1", "2", "4"]  # rounds 2, 4 and 8; 6 and 10 are the next after 5 and 10
    assert_sound(summary)
    assert replay("quickstart/5", trusted_keys()).since == 6


def test_a_training_can_start_from_the_version_of_a_block_and_go_on_with_other_blocks() -> None:
    train(plan_of(), run_key="mine")
    longer = plan_of("rounds=9", "commit_every=2")
    summary = train(longer, run_key="mine", accept_change=True)
    assert rounds_with_a_version() == [3, 6, 7, 8, 9]
    assert_sound(summary)
    after = train(small_plan("rounds=2", "start={kind: version, version: 2}"))
    assert run_of(after).info.status == "FINISHED"
    assert Library().client.get_model_version("quickstart", "6").tags["parent_version"] == "2"
