"""A command seen from outside: when its rounds end, what it spends and what it holds."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

PROJECT = Path(__file__).parent.parent
_SHOWN = 15  # lines of a command that failed


class Observed(NamedTuple):
    """Moments are seconds from ``start``, which is in seconds since 1970.

    ``began`` is when the first line came that starts as asked, ``rounds`` when each line came that starts with
    ``round``, ``rss`` the command's resident bytes at each of these, ``cpu`` the CPU seconds a round that it and its
    children spent, ``peak`` the most bytes that it held. ``every`` so many rounds go together; the first of these
    groups, which compiles, is in no number a round.
    """

    start: float
    began: float
    rounds: list[float]
    end: float
    rss: list[int]
    cpu: float
    peak: int
    every: int

    def steps(self) -> list[float]:
        """Seconds a round, of each group."""
        ends = self.rounds[self.every - 1 :: self.every]
        return [(later - earlier) / self.every for earlier, later in itertools.pairwise(ends)]

    def until(self, moment: float) -> float:
        """Seconds a round until a later moment, in seconds since 1970."""
        return (moment - self.start - self.rounds[self.every - 1]) / (len(self.rounds) - self.every)


def observe(
    command: Sequence[str], environment: dict[str, str], rounds: int, *, every: int = 1, began: str = ""
) -> Observed:
    """Runs a command that says when each of its rounds is over.

    Raises:
        SystemExit: it failed, or had another number of rounds.
    """
    started, start = time.time(), time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    first, ends, rss, spent = 0.0, list[float](), list[int](), list[float]()
    said = deque[str](maxlen=_SHOWN)
    for line in process.stdout or ():
        now = time.perf_counter() - start
        said.append(line)
        if line.startswith("round "):
            ends.append(now)
            rss.append(psutil.Process(process.pid).memory_info().rss)
            if len(ends) in (every, rounds):
                spent.append(_spent(process.pid))
        elif not first and line.startswith(began):
            first = now
    peak = _ended(process)
    end = time.perf_counter() - start
    if process.returncode != 0 or len(ends) != rounds:
        raise SystemExit(f"{' '.join(command)}: failed after {len(ends)} of {rounds} rounds\n{''.join(said)}")
    cpu = (spent[-1] - spent[0]) / max(rounds - every, 1)
    return Observed(started, first, ends, end, rss, cpu, peak, every)


def train(plan: str, changes: Sequence[str], home: Path, rounds: int, every: int = 1) -> Observed:
    """A training by the command line, with embedded defaults in the folder ``home``."""
    options = [word for change in (*changes, f"rounds={rounds}") for word in ("--set", change)]
    command = [sys.executable, "-m", "roundhouse", "train", plan, *options]
    environment = {**without_servers(), "ROUNDHOUSE_HOME": str(home)}
    return observe(command, environment, rounds, every=every, began=f"{Path(plan).stem}: ")


def _ended(process: subprocess.Popen[str]) -> int:
    """Waits for its end; gives the most bytes that it held."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


def without_servers() -> dict[str, str]:
    """The environment, without a Prefect or an MLflow that others use."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}


def _spent(pid: int) -> float:
    """CPU seconds of a process and of its living descendants."""
    process, seconds = psutil.Process(pid), 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            seconds += sum(one.cpu_times()[:2])
    return seconds
