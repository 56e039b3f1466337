"""Where a training stands, over the death of its process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import environment
from configs.loading import load_plan
from federated.errors import InputError, PlanError
from federated.loop import one_round
from federated.rounds import initial_state
from federated.updates import digest
from tasks.course import Course, begin_or_go_on, opened
from tasks.identity import digest_of_code, fingerprints, identify, identify_training
from tasks.journal import Journal
from tasks.records import Committed
from tasks.signing import signer
from tasks.starting import Start
from tasks.summary import Summary
from tasks.training import Contribution, RoundReport, Training
from tests.fakes import FakeEngine

ROUNDS = 4


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``ROUNDHOUSE_HOME`` with nothing in it, and no store but the one in it."""
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(tmp_path))
    for name in ("ROUNDHOUSE_CHECKPOINTS", "ROUNDHOUSE_SIGNING_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def training(*overrides: str) -> Training:
    """The textbook's line, with the public fake for an engine."""
    plan = load_plan("linear-regression", ["data.points=20", f"rounds={ROUNDS}", *overrides])
    return Training(plan, plan.federation(), FakeEngine())


def journal() -> Journal:
    """As another process finds it."""
    return Journal(environment.checkpoints(), "linear-regression", "key", signer())


def taken_up(of: Training, accept_change: bool = False, seconds: float = 0.0) -> Course:
    """What another process goes on from, ``seconds`` after it has started."""
    course = begin_or_go_on(of, journal(), accept_change, time.monotonic() - seconds)
    assert isinstance(course, Course)
    return course


def play_round(of: Training, course: Course, **metrics: float) -> Committed:
    """One plain round, committed."""
    passed = one_round(of.plan.algorithm, of.engine, course.state, of.federation.clients, {})
    sent = tuple(Contribution(update.client, update.sha256, update.weight) for update in passed.updates)
    per_client = of.client_tests.evaluate(of.engine, passed.state.params)
    said = passed.metrics | {"seconds_round": 0.25} | metrics
    report = RoundReport(passed.state.round, sent, ("client-x",), said, (0.1, 0.2, 0.3, 0.4, 0.5), per_client)
    return course.commit(passed.state, report, {})


def play(until: int, of: Training | None = None, **metrics: float) -> Course:
    """What a process does until it dies."""
    of = of or training()
    course = taken_up(of)
    while course.state.round < until:
        play_round(of, course, **metrics)
    return course


def records() -> list[dict[str, Any]]:
    """Everything recorded, oldest first."""
    found = journal()
    found.resume(taken_up(training()).state)
    return [committed.record for committed in found.committed]


def file(kind: str, round: int) -> Path:
    """The one file of a round."""
    folder = Path(environment.checkpoints()) / "linear-regression" / "key" / kind
    (found,) = folder.glob(f"{round:06d}-*")
    return found


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def summary(**fields: Any) -> Summary:
    return Summary(
        **{
            "run_id": "abc",
            "plan": "linear-regression",
            "rounds": ROUNDS,
            "stop_reason": "rounds",
            "metrics": {"test_loss": 0.1 + 0.2},
            "per_client": {"client-0": {"own_loss": 1 / 3}},
            "model_name": "linear-regression",
            "model_version": "7",
            "weights_sha256": "f" * 64,
            "seconds": 1.25,
            **fields,
        }
    )


def test_a_new_training_begins_at_round_0_and_records_where_it_comes_from() -> None:
    of = training()
    course = taken_up(of)
    assert (course.state.round, course.reports) == (0, [])
    start = initial_state(of.plan.algorithm, of.engine, len(of.federation.clients))
    assert course.state.params.tobytes() == start.params.tobytes()
    (record,) = records()
    assert record["identity"] == identify_training(of.plan, of.federation, signer())
    assert record["identity"]["data"] == fingerprints(of.federation)
    assert record["weights_sha256"] == digest(start.params)


def test_a_training_that_starts_from_a_version_goes_on_from_it() -> None:
    of = training()
    params = np.array([3.0, -4.0], np.float32)
    identity = identify_training(of.plan, of.federation, signer())
    course = Course(of, journal(), identity, time.monotonic())
    course.begin(Start("7", params, []))
    assert taken_up(of).state.params.tobytes() == course.state.params.tobytes() == params.tobytes()
    assert (records()[0]["start"], records()[0]["weights_sha256"]) == ("7", digest(params))


def test_every_record_names_the_plan_and_the_code() -> None:
    play(2)
    plan = training().plan
    for record in records():
        assert record["plan_sha256"] == plan.digest()
        assert record["code_sha256"] == digest_of_code(identify(plan))


def test_where_it_comes_from_is_recorded_once() -> None:
    play(1)
    play(2)
    assert ["identity" in record for record in records()] == [True, False, False]


@pytest.mark.parametrize("died_after", range(ROUNDS + 1))
def test_state_and_reports_survive(died_after: int, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(died_after)
    again = play(ROUNDS)
    monkeypatch.setenv("ROUNDHOUSE_HOME", str(own_home / "in one go"))
    at_once = play(ROUNDS)
    assert again.state.params.tobytes() == at_once.state.params.tobytes()
    assert again.reports == at_once.reports


def test_reports_are_as_they_were_when_another_process_reads_them() -> None:
    course = play(3)
    assert taken_up(training()).reports == course.reports
    assert course.reports[0].cohort == (*(f"client-{n}" for n in range(5)), "client-x")


def test_only_the_latest_report_has_the_clients_numbers() -> None:
    course = play(3)
    for found in (course, taken_up(training())):
        assert [bool(report.per_client) for report in found.reports] == [False, False, True]


def test_numbers_that_are_not_finite_survive() -> None:
    play(1, loss=float("inf"), mae=float("nan"))
    (report,) = taken_up(training()).reports
    assert str([report.metrics[name] for name in ("loss", "mae")]) == "[inf, nan]"


def test_the_seconds_of_all_attempts_count_as_far_as_they_committed_something() -> None:
    of = training()
    course = taken_up(of, seconds=100)
    assert 100 <= course.seconds < 130
    play_round(of, course)
    course = taken_up(of, seconds=20)
    assert 120 <= course.seconds < 150
    assert 100 <= taken_up(of).seconds < 130, "the second attempt committed nothing"
    play_round(of, course)
    assert 121 <= taken_up(of, seconds=1).seconds < 150


def test_the_time_of_the_latest_round_survives() -> None:
    before = time.time_ns() // 1_000_000
    course = play(2)
    assert before <= course.milliseconds <= time.time_ns() // 1_000_000
    assert taken_up(training()).milliseconds == course.milliseconds == records()[-1]["milliseconds"]


def test_a_round_computed_again_keeps_the_numbers_of_its_record() -> None:
    first = play(3, seconds_round=0.5)
    tear(file("states", 3))
    of = training()
    course = taken_up(of)
    assert [report.round for report in course.reports] == [1, 2]
    committed = play_round(of, course, seconds_round=9.0)
    assert committed.record["report"]["metrics"]["seconds_round"] == 0.5
    assert course.reports == first.reports
    assert course.milliseconds == first.milliseconds


def test_damage_is_told_by_the_journal() -> None:
    play(2)
    tear(file("states", 2))
    found = journal()
    course = begin_or_go_on(training(), found, False, time.monotonic())
    assert isinstance(course, Course)
    assert course.state.round == 1
    assert [file("states", 2).name in said for said in found.damaged] == [True]


def test_the_summary_of_a_finished_training_comes_back() -> None:
    play(ROUNDS).finish(summary())
    assert begin_or_go_on(training(), journal(), False, time.monotonic()) == summary()


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_the_summary_of_a_training_that_diverged_comes_back(loss: float) -> None:
    play(ROUNDS).finish(summary(metrics={"test_loss": loss}))
    found = begin_or_go_on(training(), journal(), False, time.monotonic())
    assert isinstance(found, Summary)
    assert str(found.metrics["test_loss"]) == str(loss)


def test_a_damaged_summary_is_made_again() -> None:
    course = play(ROUNDS)
    course.finish(summary())
    tear(file("results", ROUNDS))
    assert taken_up(training()).reports == course.reports


def test_a_change_is_refused_and_nothing_is_written(own_home: Path) -> None:
    play(2)
    before = sorted(own_home.rglob("*"))
    with pytest.raises(PlanError, match=r"plan\.rounds: 4, now 9"):
        taken_up(training("rounds=9"))
    assert sorted(own_home.rglob("*")) == before


def test_a_change_after_the_end_is_refused_too() -> None:
    play(ROUNDS).finish(summary())
    with pytest.raises(PlanError, match=r"plan\.rounds: 4, now 9"):
        taken_up(training("rounds=9"))


def test_an_accepted_change_is_in_the_next_record_and_not_asked_for_again() -> None:
    play(2)
    changed = training("rounds=9")
    course = taken_up(changed, accept_change=True)
    said = [play_round(changed, course).record for _ in range(2)]
    assert said[0]["accepted"] == ["plan.rounds: 4, now 9"]
    assert said[0]["identity"] == identify_training(changed.plan, changed.federation, signer())
    assert said[0]["plan_sha256"] == changed.plan.digest()
    assert not {"accepted", "identity"} & set(said[1])
    assert taken_up(changed).state.round == 4
    with pytest.raises(PlanError, match=r"plan\.rounds: 9, now 4"):
        taken_up(training())


def test_accepting_where_nothing_has_changed_records_nothing() -> None:
    play(1)
    of = training()
    assert not {"accepted", "identity"} & set(play_round(of, taken_up(of, accept_change=True)).record)


def test_an_accepted_change_is_in_the_next_new_record() -> None:
    play(2)
    tear(file("states", 2))
    changed = training("rounds=9")
    course = taken_up(changed, accept_change=True)
    said = [play_round(changed, course).record for _ in range(2)]
    assert said[1].get("accepted") == ["plan.rounds: 4, now 9"]


def test_a_finished_training_goes_on_when_a_change_is_accepted() -> None:
    play(ROUNDS).finish(summary())
    course = taken_up(training("rounds=9"), accept_change=True)
    assert (course.state.round, len(course.reports)) == (ROUNDS, ROUNDS)


def test_a_training_that_went_on_after_its_end_is_not_over() -> None:
    play(ROUNDS).finish(summary())
    changed = training("rounds=9")
    play_round(changed, taken_up(changed, accept_change=True))
    assert taken_up(changed).state.round == ROUNDS + 1


def test_other_data_are_a_change() -> None:
    of = training()
    play(1, of)
    fewer = {name: replace(client, train=client.train.take([0, 1])) for name, client in of.federation.clients.items()}
    with pytest.raises(InputError, match="train_rows"):
        taken_up(Training(of.plan, replace(of.federation, clients=fewer), of.engine))


@pytest.fixture
def elsewhere() -> Iterator[subprocess.Popen[str]]:
    """Another process that has the training ``plan``, ``key`` open."""
    lines = ["from tasks.course import opened", "with opened('plan', 'key'):", " print('open', flush=True)", " input()"]
    command, folder = [sys.executable, "-c", "\n".join(lines)], Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_a_training_is_open_in_one_process_at_a_time_and_free_when_that_is_killed(
    elsewhere: subprocess.Popen[str],
) -> None:
    with (
        pytest.raises(
            InputError, match=r"^--run-key key: another training is at it; wait for its end, or take another"
        ),
        opened("plan", "key"),
    ):
        pass
    with opened("plan", "other"), opened("other", "key"):
        pass
    elsewhere.kill()
    elsewhere.wait(timeout=60)
    with opened("plan", "key") as found:
        assert found.is_new


def test_a_training_is_free_again_after_an_error_that_somebody_keeps() -> None:
    with pytest.raises(RuntimeError) as kept, opened("plan", "key"):
        raise RuntimeError("a round failed")
    with opened("plan", "key"):
        assert kept.value is not None


def test_two_trainings_do_not_share_a_lock() -> None:
    with opened("digits", "big-1"), opened("digits-big", "1"):
        pass


@pytest.mark.parametrize("run_key", ["", "../../x", "a/b"])
def test_a_run_key_that_is_no_name_leaves_nothing_behind(run_key: str, own_home: Path) -> None:
    with pytest.raises(InputError, match="--run-key"), opened("plan", run_key):
        pass
    assert list(own_home.iterdir()) == []


def test_checkpoints_lie_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_CHECKPOINTS", str(tmp_path / "elsewhere"))
    with opened("plan", "key") as found:
        found.attempts.note("first")
    assert (tmp_path / "elsewhere" / "plan" / "key" / "attempts").is_dir()
