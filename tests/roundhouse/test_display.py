"""What a person sees while a training runs."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from configs.loading import load_plan
from roundhouse.display import Clock, LineDisplay, LiveDisplay, displayed, round_duration
from tasks.training import RoundReport

REPORT = RoundReport(1, ("a", "b"), ("c",), {"loss": 0.5, "accuracy": 0.75}, (0.0,) * 5, {})


def terminal(width: int) -> Console:
    """A terminal of this width that keeps what it is sent."""
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)


def shown(console: Console) -> str:
    """Everything it was sent."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 160])
def test_a_terminal_gets_a_line_that_moves_with_the_rounds_numbers(width: int) -> None:
    console = terminal(width)
    with displayed(console) as display:
        assert isinstance(display, LiveDisplay)
        display.begins(load_plan("quickstart"), 4810)
        display.round_done(replace(REPORT, left_out=()))
        time.sleep(0.3)  # it is drawn ten times a second
        moving = shown(console)
        display.round_done(replace(REPORT, round=2))
        display.compares()
        display.stops()
    assert "round 1/30  2 clients  loss 0.5000  accuracy 0.7500" in moving
    assert "left out (NaN or infinity)" in shown(console)


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}])
def test_anything_else_gets_plain_lines(environment: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=bool(environment), _environ=environment)
    with displayed(console) as display:
        assert isinstance(display, LineDisplay)
        display.begins(load_plan("quickstart"), 4810)
        display.round_done(REPORT)
    first, second = shown(console).splitlines()
    assert first == "quickstart: 4,810 parameters, up to 30 rounds"
    assert second.startswith("round 1/30  2 clients  loss 0.5000  accuracy 0.7500")


def test_the_pace_counts_from_round_two_because_round_one_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    clock = Clock()
    assert clock.pace(1, 10) == "10.00 s/round  2 min left"
    assert clock.pace(2, 10) == "1.00 s/round  8 s left"
    assert clock.pace(3, 10) == "1.00 s/round  7 s left"


@pytest.mark.parametrize(("seconds", "text"), [(4.2, "4 s"), (185, "3 min"), (9000, "2.5 h")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert round_duration(seconds) == text
