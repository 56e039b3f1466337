"""What a person sees while a training runs."""

from __future__ import annotations

import io
import re
import time
from dataclasses import replace

import pytest
from rich.console import Console

from configs.loading import load_plan
from roundhouse.display import Clock, LineDisplay, LiveDisplay, displayed, next_steps, round_duration
from tasks.summary import Summary
from tasks.training import Contribution, RoundReport

SENT = (Contribution("a", "", 1.0), Contribution("b", "", 1.0))
REPORT = RoundReport(1, SENT, ("c",), {"loss": 0.5, "accuracy": 0.75}, (0.0,) * 5, {})


def terminal(width: int) -> Console:
    """A terminal of this width that keeps what it is sent."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)


def shown(console: Console) -> str:
    """Everything it was sent."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(text: str) -> str:
    """Without the codes that move and colour, and with the line ends of a file."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "")


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_gets_a_line_that_moves_with_the_rounds_numbers(width: int) -> None:
    console = terminal(width)
    with displayed(console) as display:
        assert isinstance(display, LiveDisplay)
        display.begins(load_plan("quickstart"), 4810, "key", 0)
        display.round_done(replace(REPORT, left_out=()))
        time.sleep(0.3)  # it is drawn ten times a second
        moving = shown(console)
        display.round_done(replace(REPORT, round=2))
        display.compares()
        display.stops()
    assert "round 1/30  2 clients  loss 0.5000  accuracy 0.7500" in moving
    assert "left out (NaN or infinity)" in shown(console)
    assert "run key key\n" in plain(shown(console))
    assert "--run-key key goes on\n" in plain(shown(console))


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}])
def test_anything_else_gets_plain_lines(environment: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=bool(environment), _environ=environment)
    with displayed(console) as display:
        assert isinstance(display, LineDisplay)
        display.begins(load_plan("quickstart"), 4810, "key", 0)
        display.round_done(REPORT)
        display.compares()
        display.stops()
    first, second, third, fourth = shown(console).splitlines()
    assert first == "quickstart: 4,810 parameters, up to 30 rounds, run key key"
    assert second.startswith("round 1/30  3 clients  loss 0.5000  accuracy 0.7500")
    assert second.endswith("left out (NaN or infinity): c")
    assert third == "training each client alone and all rows pooled, for comparison"
    assert fourth == "stopping; --run-key key goes on"


def test_a_training_that_goes_on_says_after_which_round() -> None:
    lines, live = Console(file=io.StringIO(), width=160), terminal(160)
    for console in (lines, live):
        with displayed(console) as display:
            display.begins(load_plan("quickstart"), 4810, "nightly-7", 4)
    assert shown(lines).splitlines()[1] == "going on after round 4"
    assert "run key nightly-7, going on after round 4\n" in plain(shown(live))
    assert "quickstart: round 5" in plain(shown(live))


def test_the_bar_of_a_training_that_goes_on_counts_the_rounds_before() -> None:
    with displayed(terminal(160)) as display:
        assert isinstance(display, LiveDisplay)
        display.begins(load_plan("quickstart"), 4810, "key", 4)
        display.round_done(replace(REPORT, round=5))
        (bar,) = display._progress.tasks
        assert (bar.completed, bar.total) == (5, 30)


NOTE = "/data/[1]/000007.json is damaged: [bold]its SHA-256[/bold] is not the one in its name"


def test_what_a_person_should_know_is_shown_as_it_is_written() -> None:
    lines, live = Console(file=io.StringIO(), width=160), terminal(160)
    for console in (lines, live):
        with displayed(console) as display:
            display.notes(NOTE)
        assert f"{NOTE}\n" in plain(shown(console))


def test_the_pace_counts_from_round_two_because_round_one_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    clock = Clock()
    assert clock.pace(1, 10) == "10.00 s/round  2 min left"
    assert clock.pace(2, 10) == "1.00 s/round  8 s left"
    assert clock.pace(3, 10) == "1.00 s/round  7 s left"


def test_the_pace_of_a_training_that_goes_on_counts_its_own_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 11.0, 13.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    clock = Clock(rounds_done=6)
    assert clock.pace(7, 10) == "10.00 s/round  30 s left"
    assert clock.pace(8, 10) == "1.00 s/round  2 s left"
    assert clock.pace(9, 10) == "1.50 s/round  2 s left"


def test_the_pace_of_rounds_that_come_together_is_that_of_their_block(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 10.0, 12.0, 12.0, 13.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    clock = Clock(rounds_done=1, block=3)
    assert [clock.pace(number, 7) for number in (2, 3)] == ["5.00 s/round  20 s left"] * 2
    assert [clock.pace(number, 7) for number in (4, 6)] == ["0.67 s/round  1 s left"] * 2
    assert clock.pace(7, 7) == "0.75 s/round  0 s left"


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4 s"), (185, "3 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert round_duration(seconds) == text


@pytest.mark.parametrize(
    ("typed_as", "typed"),
    [
        (["quickstart"], "quickstart"),
        (["my plan.yaml"], "'my plan.yaml'"),
        (["quickstart", "rounds=3", "model={kind: mlp}"], "quickstart --set rounds=3 --set 'model={kind: mlp}'"),
    ],
)
def test_what_to_try_names_the_plan_as_it_was_typed(typed_as: list[str], typed: str) -> None:
    summary = Summary(
        run_id="7", plan="fed-heart", rounds=1, stop_reason="rounds", metrics={}, per_client={},
        model_name="fed-heart", model_version="1", weights_sha256="0" * 64, seconds=1.0,
    )  # fmt: skip
    lines = "\n".join(next_steps(summary, load_plan("quickstart"), typed_as))
    assert f"roundhouse train {typed} --set algorithm.local.epochs=5" in lines
    by_steps = load_plan("quickstart", ["algorithm.local={steps: 3}"])
    assert "algorithm.local.epochs" not in "\n".join(next_steps(summary, by_steps, typed_as))
