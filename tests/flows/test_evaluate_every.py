"""Rounds that are not evaluated: the same weights, and a final model that is measured all the same."""

from __future__ import annotations

from typing import Any

import pytest

from federated.errors import TrainingError
from flows.train import train
from tasks.drifting import measure_drift
from tasks.summary import Summary
from tasks.training import RoundReport
from tasks.watching import Unwatched, watched_by
from tests.flows.test_blocks import dies_in
from tests.flows.test_going_on import numbers
from tests.flows.test_train import Interrupter, client, run_of, small_plan

SLOW = pytest.mark.slow
pytestmark = pytest.mark.usefixtures("prefect_api", "home")


class Heard(Unwatched):
    """Every round's report."""

    def __init__(self) -> None:
        self.reports: list[RoundReport] = []

    def round_done(self, report: RoundReport) -> None:
        self.reports.append(report)


def history(summary: Summary, name: str) -> dict[int, Any]:
    return {point.step: point.value for point in client().get_metric_history(summary.run_id, name)}


@pytest.mark.parametrize(
    ("every", "evaluated", "block"),
    [
        (2, [2, 4], 1),
        pytest.param(2, [2, 4], 3, marks=SLOW),
        pytest.param(0, [], 1, marks=SLOW),
        pytest.param(9, [], 3, marks=SLOW),
    ],
)
def test_only_such_rounds_are_evaluated_and_the_model_that_comes_out(
    every: int, evaluated: list[int], block: int
) -> None:
    reference = train(small_plan("rounds=5"))
    with watched_by(heard := Heard()):
        summary = train(small_plan("rounds=5", f"evaluate_every={every}", f"commit_every={block}"))
    assert [report.round for report in heard.reports if "loss" in report.metrics] == evaluated
    assert [report.round for report in heard.reports if report.spread or report.per_client] == evaluated
    assert not [name for name in heard.reports[0].metrics if name.startswith(("loss", "accuracy", "client_"))]
    assert numbers(summary) == numbers(reference)
    for name in ("loss", "accuracy", "client_accuracy_worst"):
        full = history(reference, name)
        assert history(summary, name) == {step: full[step] for step in [*evaluated, 5]}
    assert list(history(summary, "train_loss")) == [1, 2, 3, 4, 5]
    assert len(client().list_artifacts(summary.run_id, "figures")) == 3
    assert run_of(summary).data.metrics["test_accuracy"] == summary.metrics["test_accuracy"]


def test_patience_counts_rounds_that_are_evaluated() -> None:
    stop = "stop={metric: loss, patience: 1, min_delta: 10}"
    for block in (1, 5):
        summary = train(small_plan("rounds=9", "evaluate_every=2", f"commit_every={block}", stop))
        assert (summary.rounds, summary.stop_reason) == (4, "patience")


def test_a_training_that_time_ends_measures_its_last_model() -> None:
    summary = train(small_plan("rounds=9", "evaluate_every=0", "stop={minutes: 1.0e-4}"))
    assert (summary.rounds, summary.stop_reason) == (1, "minutes")
    assert list(history(summary, "loss")) == [1]


def test_a_training_that_goes_on_measures_each_round_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = small_plan("rounds=5", "evaluate_every=2")
    reference = train(plan)
    dies_in(4, TrainingError("round 4 is not to be"), monkeypatch)
    with pytest.raises(TrainingError):
        train(plan, run_key="mine")
    summary = train(plan, run_key="mine")
    assert numbers(summary) == numbers(reference)
    for name in ("loss", "train_loss"):
        assert history(summary, name) == history(reference, name)


def test_the_drift_of_a_champion_that_nobody_measured_looks_at_its_features_and_says_so() -> None:
    plan = small_plan("rounds=4", "evaluate_every=0")
    with watched_by(Interrupter()):
        train(plan, return_state=True)
    client().set_registered_model_alias("quickstart", "champion", "2")
    found = measure_drift.fn(plan)
    assert found is not None
    assert (found.rows, found.before, found.drifted) == ("validation", None, False)
    assert "when it was trained | its round was not evaluated |" in found.as_markdown()
