"""A training as it goes, and its outcome."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from configs import environment
from configs.plan import Plan
from configs.privacy import epsilon_said
from roundhouse.typed import typed
from tasks.summary import Summary
from tasks.training import RoundReport
from tasks.watching import Watcher

_WIDE = 110  # columns of a terminal that hold a bar beside the numbers
_MOST_CLIENTS = 30


class Display(Watcher, Protocol):
    """Shows a training to a person."""

    def says(self, phase: str) -> None:
        """What happens now, outside rounds."""


class Clock:
    """Seconds a round so far, and what is left at that pace. The first compiles: it counts only while it is alone.

    Rounds of a block are heard of together, once all of them are over.
    """

    def __init__(self, rounds_done: int = 0, block: int = 1) -> None:
        self._began, self._first, self._block = time.monotonic(), rounds_done, block
        self._compiles = self._end(rounds_done + 1)

    def pace(self, round: int, rounds: int) -> str:
        """Such as ``0.21 s/round  4 s left``; to call after every round."""
        now, done = time.monotonic(), min(self._end(round), rounds)
        seconds = (now - self._began) / (done - self._first)
        if round == self._compiles:
            self._began, self._first = now, round
        return f"{seconds:.2f} s/round  {round_duration(seconds * (rounds - done))} left"

    def _end(self, round: int) -> int:
        """The last round of its block."""
        return -(-round // self._block) * self._block


def round_duration(seconds: float) -> str:
    """Such as ``4 s``, ``3 min`` or ``2.5 h``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def line(plan: Plan, report: RoundReport, pace: str) -> str:
    """A round in one line."""
    scores = [f"{name} {value:.4f}" for name, value in report.scores.items()]
    parts = [f"round {report.round}/{plan.rounds}", f"{len(report.cohort)} clients", *scores, pace]
    if "epsilon" in report.metrics:
        parts.append(epsilon_said(report.means, report.metrics["epsilon"]))
    if report.left_out:
        parts.append(f"left out (NaN or infinity): {', '.join(report.left_out)}")
    return "  ".join(parts)


class LineDisplay:
    """Plain lines, for logs."""

    def __init__(self, console: Console) -> None:
        self._console, self._clock, self._run_key = console, Clock(), ""

    def says(self, phase: str) -> None:
        self._print(phase)

    def begins(self, plan: Plan, parameters: int, run_key: str, rounds_done: int) -> None:
        self._plan, self._clock, self._run_key = plan, Clock(rounds_done, plan.commit_every), run_key
        self._print(f"{plan.name}: {parameters:,} parameters, up to {plan.rounds} rounds, run key {run_key}")
        if rounds_done:
            self._print(f"going on after round {rounds_done}")

    def notes(self, text: str) -> None:
        self._print(text)

    def round_done(self, report: RoundReport) -> None:
        self._print(line(self._plan, report, self._clock.pace(report.round, self._plan.rounds)))

    def compares(self) -> None:
        self._print("training each client alone and all rows pooled, for comparison")

    def stops(self) -> None:
        self._print(f"stopping; --run-key {self._run_key} goes on")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class LiveDisplay:
    """One line that moves, for terminals."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._clock = progress, Clock()
        self._bar: TaskID = progress.add_task("", total=None)
        self._run_key = ""

    def says(self, phase: str) -> None:
        self._progress.update(self._bar, description=phase)

    def begins(self, plan: Plan, parameters: int, run_key: str, rounds_done: int) -> None:
        self._plan, self._clock, self._run_key = plan, Clock(rounds_done, plan.commit_every), run_key
        self._progress.update(self._bar, total=plan.rounds, description=f"{plan.name}: round {rounds_done + 1}")
        self.notes(f"run key {run_key}" + (f", going on after round {rounds_done}" if rounds_done else ""))

    def notes(self, text: str) -> None:
        self._progress.print(text, highlight=False, markup=False)

    def round_done(self, report: RoundReport) -> None:
        text = line(self._plan, report, self._clock.pace(report.round, self._plan.rounds))
        self._progress.update(self._bar, completed=report.round, description=text)
        if report.left_out:
            self._progress.print(text, highlight=False, markup=False)

    def compares(self) -> None:
        self.says("training each client alone and all rows pooled, for comparison")

    def stops(self) -> None:
        self.says("stopping")
        self.notes(f"--run-key {self._run_key} goes on")


@contextlib.contextmanager
def displayed(console: Console) -> Iterator[Display]:
    """A live display on a terminal, plain lines elsewhere."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineDisplay(console)
        return
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=20),
        TextColumn("{task.description}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield LiveDisplay(progress)


def outcome(summary: Summary) -> Iterator[Table | str]:
    """The summary, to print."""
    score = "accuracy" if "test_accuracy" in summary.metrics else "mae"
    yield (
        f"{summary.plan}: {summary.rounds} rounds in {round_duration(summary.seconds)}, ended by {summary.stop_reason}"
    )
    if summary.privacy:
        yield f"privacy: {summary.privacy}"
    yield _models(summary, score)
    if any(f"alone_test_{score}" in numbers for numbers in summary.per_client.values()):
        yield _clients(summary, score)
        if len(summary.per_client) > _MOST_CLIENTS:
            yield f"and {len(summary.per_client) - _MOST_CLIENTS} more clients, in summary.json of the MLflow run"


def _models(summary: Summary, score: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", f"test {score}", "test loss"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = {
        "federated model": ("test_{}", "test_{}"),
        "pooled rows (what nobody may do)": ("pooled_test_{}", "pooled_test_{}"),
        "a client alone: median": ("alone_test_{}_median", "alone_test_{}_median"),
        "a client alone: worst": ("alone_test_{}_worst", "alone_test_{}_worst"),
    }
    for name, (first, second) in rows.items():
        keys = (first.format(score), second.format("loss"))
        if keys[0] in summary.metrics:
            table.add_row(name, *(f"{summary.metrics[key]:.4f}" for key in keys))
    return table


def _clients(summary: Summary, score: str) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left")
    for heading in ("client", "rows", "alone", "alone, own test rows", "federated, own test rows"):
        table.add_column(heading, justify="left" if heading == "client" else "right")
    for name, numbers in list(summary.per_client.items())[:_MOST_CLIENTS]:
        keys = (f"alone_test_{score}", f"alone_own_{score}", f"own_{score}")
        table.add_row(name, f"{numbers['train_rows']:.0f}", *(f"{numbers[key]:.4f}" for key in keys))
    return table


def next_steps(summary: Summary, plan: Plan, typed_as: Sequence[str]) -> Iterator[str]:
    """Where things are, and what to try with the plan, which was ``typed_as`` a name or path and its overrides."""
    name, again = summary.model_name, " --set ".join(map(quote, typed_as))
    yield ""
    yield f"MLflow run        {summary.run_id} in {environment.without_secrets(environment.tracking_uri())}"
    yield f"registered model  models:/{name}@latest, version {summary.model_version}"
    yield f"weights           sha256 {summary.weights_sha256[:16]}"
    yield ""
    if environment.artifact_root() is None:  # the servers are somebody's already
        yield f"next: {typed('roundhouse')} promote {again}     makes it the champion, where the gates let it"
    else:
        yield f"next: {typed('roundhouse')} up     every run, figure and version in the browser"
    if plan.algorithm.local.steps is None:
        yield f"      {typed('roundhouse')} train {again} --set algorithm.local.epochs=5"
