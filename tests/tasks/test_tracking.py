"""How a training is written down, and what happens when it cannot be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.loading import load_plan
from federated.errors import InputError, TrackingError
from tasks.tracking import TrackedRun, connect, flatten, open_run, patiently, storing
from tasks.versions import _listed
from tasks.watching import Unwatched, watched_by


def test_nested_fields_become_dotted_names() -> None:
    fields = {"a": {"b": 1, "c": [2, 3]}, "d": [{"e": None}], "f": {}}
    assert flatten(fields) == {"a.b": "1", "a.c": "[2, 3]", "d.0.e": "None", "f": "{}"}


def test_a_run_whose_plan_cannot_be_stored_ends_as_failed(home: Path) -> None:
    (home / "artifacts").touch()  # a file where a folder must be
    with pytest.raises(TrackingError, match=r"could not store plan/plan\.yaml: .*Not a directory"):
        open_run(load_plan("quickstart"), "key", "flow")
    client = connect()
    (run,) = client.search_runs([client.get_experiment_by_name("quickstart").experiment_id])
    assert run.info.status == "FAILED"


@pytest.mark.usefixtures("home")
def test_a_deleted_experiment_is_not_brought_back_behind_the_users_back() -> None:
    client = connect()
    client.delete_experiment(client.create_experiment("quickstart"))
    with pytest.raises(InputError, match="'quickstart' is deleted; restore it"):
        open_run(load_plan("quickstart"), "key", "flow")


@pytest.mark.usefixtures("home")
def test_option_names_that_mlflow_refuses_are_written_with_underscores() -> None:
    model = "model={kind: custom, target: 'tests.flows.own_code:build', options: {'site(s)': 3}}"
    run = open_run(load_plan("quickstart", [model]), "key", "flow")
    assert connect().get_run(run.run_id).data.params["model.options.site_s_"] == "3"


def runs() -> list[Any]:
    """All runs of the quickstart."""
    client = connect()
    return list(client.search_runs([client.get_experiment_by_name("quickstart").experiment_id]))


@pytest.mark.usefixtures("home")
def test_a_training_that_goes_on_goes_on_in_its_run() -> None:
    first = open_run(load_plan("quickstart"), "key", "flow 1")
    first.close("FAILED")
    second = open_run(load_plan("quickstart"), "key", "flow 2")
    (run,) = runs()
    assert run.info.run_id == first.run_id == second.run_id
    assert run.info.status == "RUNNING"
    assert (run.data.tags["run_key"], run.data.tags["prefect.flow_run_id"]) == ("key", "flow 2")
    second.close("FINISHED")
    assert [run.info.status for run in runs()] == ["FINISHED"]


@pytest.mark.usefixtures("home")
def test_another_run_key_is_another_run() -> None:
    opened = [open_run(load_plan("quickstart"), run_key, "flow").run_id for run_key in ("key", "key-2", "ke", "KEY")]
    assert len(set(opened)) == len(runs()) == 4


@pytest.mark.usefixtures("home")
def test_a_run_that_could_not_be_opened_is_opened_by_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise TrackingError("503")

    with monkeypatch.context() as away:
        away.setattr(TrackedRun, "log_file", refuse)
        with pytest.raises(TrackingError, match="503"):
            open_run(load_plan("quickstart"), "key", "flow")
    again = open_run(load_plan("quickstart"), "key", "flow")
    assert [(run.info.run_id, run.info.status) for run in runs()] == [(again.run_id, "RUNNING")]


@pytest.mark.usefixtures("home")
def test_a_training_whose_changed_plan_was_accepted_goes_on_in_its_run() -> None:
    first = open_run(load_plan("quickstart"), "key", "flow 1")
    second = open_run(load_plan("quickstart", ["rounds=31"]), "key", "flow 2")
    assert first.run_id == second.run_id
    (run,) = runs()
    assert run.data.tags["plan_sha256"] == load_plan("quickstart", ["rounds=31"]).digest()


@pytest.mark.usefixtures("home")
def test_the_numbers_of_a_round_again_change_nothing() -> None:
    run = open_run(load_plan("quickstart"), "key", "flow")
    numbers = {"loss": 0.5, "mae": float("inf"), "accuracy": float("nan")}
    for _ in range(2):
        run.log_metrics(numbers, 3, 1_700_000_000_000)
        run = open_run(load_plan("quickstart"), "key", "flow")
    for name in numbers:
        (point,) = run.client.get_metric_history(run.run_id, name)
        assert (point.step, point.timestamp) == (3, 1_700_000_000_000)


@pytest.mark.usefixtures("home")
def test_a_tag_takes_another_value() -> None:
    run = open_run(load_plan("quickstart"), "key", "flow")
    for text in ("patience", "rounds"):
        run.set_tags({"stop_reason": text, "model_version": "7"})
    tags = connect().get_run(run.run_id).data.tags
    assert (tags["stop_reason"], tags["model_version"]) == ("rounds", "7")


class Waiting(threading.Event):
    """The sign to stop, on a clock of its own: it is never set, unless after ``cancelled_after`` pauses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cancelled_after: int | None = None) -> None:
        super().__init__()
        self.pauses: list[float] = []
        self._cancelled_after = cancelled_after
        monkeypatch.setattr(time, "monotonic", lambda: sum(self.pauses))

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.pauses.append(timeout)
        return len(self.pauses) == self._cancelled_after


def refusing(times: float, error: Exception) -> Callable[[], int]:
    """What fails so often, and then gives how often it was done."""
    done: list[None] = []

    def act() -> int:
        done.append(None)
        if len(done) <= times:
            raise error
        return len(done)

    return act


class Told(Unwatched):
    """Keeps what a person is told."""

    def __init__(self) -> None:
        self.notes_: list[str] = []

    def notes(self, text: str) -> None:
        self.notes_.append(text)


AWAY = TrackingError("MLflow could not store it: connection refused")


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MLflow server is configured."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def test_a_database_that_a_killed_process_has_half_made_is_made_again(home: Path) -> None:
    (home / "mlflow.db").unlink(missing_ok=True)
    for left in ("mlflow.db.new", "mlflow.db.new-journal"):
        (home / left).write_bytes(b"half a database")
    assert connect().search_experiments()[0].name == "Default"
    assert not list(home.glob("mlflow.db.new*"))


@pytest.mark.usefixtures("remote")
def test_a_server_that_is_away_for_a_while_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, told = Waiting(monkeypatch), Told()
    with watched_by(told):
        assert patiently(refusing(7, AWAY), waiting) == 8
    assert waiting.pauses == [0.5, 1, 2, 4, 8, 15, 15]
    assert told.notes_ == [
        "MLflow could not store it: connection refused; trying again for 10 minutes, rounds wait on disk",
        "MLflow answers again",
    ]


@pytest.mark.usefixtures("remote")
def test_a_server_that_stays_away_is_given_up_after_ten_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    with pytest.raises(TrackingError, match="connection refused"):
        patiently(refusing(float("inf"), AWAY), waiting)
    assert 580 < sum(waiting.pauses) <= 600


@pytest.mark.usefixtures("remote")
def test_a_training_that_is_cancelled_does_not_wait_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch, cancelled_after=3)
    with pytest.raises(TrackingError, match="connection refused"):
        patiently(refusing(float("inf"), AWAY), waiting)
    assert len(waiting.pauses) == 3


@pytest.mark.usefixtures("home")
def test_an_embedded_mlflow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    with pytest.raises(TrackingError, match="connection refused"):
        patiently(refusing(1, AWAY), waiting)
    assert waiting.pauses == []


@pytest.mark.usefixtures("remote")
@pytest.mark.parametrize("error", [InputError("wrong"), RuntimeError("a bug")], ids=repr)
def test_what_waiting_does_not_mend_is_not_waited_for(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Waiting(monkeypatch)
    with pytest.raises(type(error), match=str(error)):
        patiently(refusing(1, error), waiting)
    assert waiting.pauses == []


def test_whatever_goes_wrong_is_one_line_that_says_where(home: Path) -> None:
    with pytest.raises(TrackingError) as refusal, storing("it"):
        raise RuntimeError("first line\nsecond line")
    assert str(refusal.value) == f"MLflow could not store it: first line; check sqlite:///{home}/mlflow.db and its disk"


def test_a_cohort_is_cut_between_names_and_counts_the_rest() -> None:
    names = [f"client-{number:04}" for number in range(1000)]
    text = _listed(names)
    shown, _, rest = text.partition(" and ")
    assert set(shown.split(",")) < set(names)
    assert len(shown.split(",")) + int(rest.split()[0]) == 1000
    assert _listed(names[:3]) == "client-0000,client-0001,client-0002"


def test_a_cohort_is_cut_between_names_that_are_long() -> None:
    names = [f"{number}-{'x' * 300}" for number in range(50)]
    text = _listed(names)
    assert len(text) <= 4000 + len(" and 50 more")
    assert text.endswith(f" and {50 - text.count('-')} more")
