"""What a training leaves to read."""

from __future__ import annotations

from tasks.summary import Summary, markdown
from tasks.training import RoundReport

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
    return RoundReport(number, ("a", "b"), left_out, metrics, (0.0,) * 5, {})


def test_the_artifact_has_the_facts_and_a_line_for_every_round() -> None:
    text = markdown(SUMMARY, [report(1), report(2, ("b",))])
    assert "| rounds | 2, ended by target |" in text
    assert "| model | quickstart version 7 |" in text
    assert "| test accuracy | 0.9000 |" in text
    assert "| 1 | 2 | 1.0000 | 0.5000 | 0.4000 | 0.10 |  |" in text
    assert "| 2 | 2 | 0.5000 | 0.5000 | 0.4000 | 0.10 | b |" in text


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
