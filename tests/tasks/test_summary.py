"""What a training leaves to read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks.summary import Summary, markdown
from tasks.training import Contribution, RoundReport

SUMMARY = Summary(
    run_id="abc",
    plan="quickstart",
    rounds=2,
    stop_reason="target",
    metrics={"test_accuracy": 0.9},
    per_client={},
    model_name="quickstart",
    model_version="7",
    weights_sha256="f" * 64,
    seconds=1.25,
)


def report(number: int, left_out: tuple[str, ...] = ()) -> RoundReport:
    """A round of two clients."""
    metrics = {"loss": 1.0 / number, "accuracy": 0.5, "train_loss": 0.4, "seconds_round": 0.1}
    sent = tuple(Contribution(name, f"digest of {name}", 3.0) for name in ("a", "b") if name not in left_out)
    return RoundReport(number, sent, left_out, metrics, (0.0,) * 5, {})


def test_the_artifact_has_the_facts_and_a_line_for_every_round() -> None:
    text = markdown(SUMMARY, [report(1), report(2, ("b",))])
    assert "| rounds | 2, ended by target |" in text
    assert "| model | quickstart version 7 |" in text
    assert "| test accuracy | 0.9000 |" in text
    assert "| 1 | 2 | 1.0000 | 0.5000 | 0.4000 | 0.10 |  |" in text
    assert "| 2 | 2 | 0.5000 | 0.5000 | 0.4000 | 0.10 | b |" in text


def test_a_round_that_was_not_evaluated_has_empty_cells_and_a_line_without_scores() -> None:
    bare = replace(report(1), metrics={"train_loss": 0.4, "seconds_round": 0.1}, spread=())
    text = markdown(SUMMARY, [bare, report(2)])
    assert "| 1 | 2 |  |  | 0.4000 | 0.10 |  |" in text
    assert "| 2 | 2 | 0.5000 | 0.5000 | 0.4000 | 0.10 |  |" in text
    assert str(bare) == "round 1: 2 clients, 0.10 s"


def test_a_long_training_keeps_its_last_two_hundred_rounds_in_the_table() -> None:
    lines = markdown(SUMMARY, [report(number) for number in range(1, 301)]).splitlines()
    numbers = [
        int(line.split("|")[1]) for line in lines if line.startswith("| ") and line.split("|")[1].strip().isdigit()
    ]
    assert numbers == list(range(101, 301))


def test_a_round_says_who_was_left_out() -> None:
    assert str(report(1, ("b",))) == (
        "round 1: 2 clients, loss 1.0000, accuracy 0.5000, 0.10 s, left out b (NaN or infinity)"
    )


def test_the_cohort_is_everyone_who_was_selected_in_order() -> None:
    assert report(1).cohort == report(1, ("b",)).cohort == report(1, ("a",)).cohort == ("a", "b")
    assert report(1, ("a", "b")).cohort == ("a", "b")


def test_a_report_survives_a_trip_through_json_without_the_clients_numbers() -> None:
    metrics = {"loss": 0.1 + 0.2, "accuracy": 1e-300, "seconds_round": 0.0}
    sent = (Contribution("Zürich", "f" * 64, 1 / 3), Contribution("a", "0" * 64, 2.0))
    before = RoundReport(7, sent, ("b", "c"), metrics, (0.0, 0.1, 0.5, 0.9, 1.0), {})
    with_clients = RoundReport(7, sent, ("b", "c"), metrics, before.spread, {"a": {"loss": 1.0}})
    assert RoundReport.from_json(7, json.loads(json.dumps(with_clients.as_json()))) == before
    assert "per_client" not in with_clients.as_json()


def test_a_summary_survives_a_trip_through_json() -> None:
    exact = SUMMARY.model_copy(update={"metrics": {"test_loss": 0.1 + 0.2}, "per_client": {"a": {"own_mae": 1 / 3}}})
    assert Summary.model_validate_json(exact.model_dump_json()) == exact


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_the_summary_of_a_model_that_diverged_survives_too(loss: float) -> None:
    diverged = SUMMARY.model_copy(update={"metrics": {"test_loss": loss}})
    assert str(Summary.model_validate_json(diverged.model_dump_json()).metrics) == str({"test_loss": loss})
