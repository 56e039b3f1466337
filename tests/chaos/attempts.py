"""One attempt at a training after another, each a process of its own, in one home."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.fuse import DIARY
from tests.roundhouse.commands import environment

_ROUND = re.compile(r"^round (\d+)/", re.MULTILINE)
_LOOKS_SECONDS = 0.02
_LONGEST_SECONDS = 400

PLAN = "quickstart"

Meanwhile = Callable[[str], None]


def _nothing(_: str) -> None:
    return None


class Attempt(NamedTuple):
    """How a process ended, and what it said."""

    point: str
    code: int
    answer: str
    printed: str
    diary: tuple[dict[str, Any], ...]
    first_round_seconds: float | None
    recorded_before: frozenset[int]
    recorded: frozenset[int]

    @property
    def rounds(self) -> list[int]:
        """Those that it said were done."""
        return rounds_in(self.printed)

    @property
    def begun(self) -> list[int]:
        """Those that it began."""
        return [line["begun"] for line in self.diary if "begun" in line]

    @property
    def in_flight(self) -> list[int]:
        """Those that it began and did not record: the work that its end cost."""
        return [number for number in self.begun if number not in self.recorded]

    @property
    def was_killed(self) -> bool:
        """At the point that was asked for."""
        return self.code == -signal.SIGKILL and any("killed" in line for line in self.diary)

    @property
    def was_hit(self) -> bool:
        """By whatever was asked for."""
        return self.was_killed or any("refused" in line for line in self.diary)

    @property
    def again(self) -> list[int]:
        """Rounds that it trained although they were on record: the work that was lost."""
        return [number for number in self.begun if number in self.recorded_before]

    @property
    def tensorflow_seconds(self) -> float | None:
        """How long importing it took."""
        return next((line["seconds"] for line in self.diary if "imported" in line), None)


class Training:
    """A training of the quickstart in ``home``, known by its key, with the servers in ``env`` if any."""

    def __init__(self, home: Path, key: str, rounds: int, env: Mapping[str, str] | None = None) -> None:
        self.home, self.key, self.rounds, self.env = home, key, rounds, dict(env or {})
        self.attempts: list[Attempt] = []

    @property
    def folder(self) -> Path:
        """Its checkpoints."""
        return self.home / "checkpoints" / PLAN / self.key

    def recorded(self) -> frozenset[int]:
        """The rounds on record, the start, 0, included."""
        return frozenset(int(path.name.partition("-")[0]) for path in (self.folder / "records").glob("0*.json"))

    def attempt(self, point: str = "nowhere", number: int = 0, meanwhile: Meanwhile = _nothing) -> Attempt:
        """Runs the command until it ends or dies. ``meanwhile`` hears all that it has printed, many times a second."""
        process = _Process(self, ["tests.chaos.victim", *point.split(), str(number), "--"])
        made = process.watch(point, meanwhile)
        self.attempts.append(made)
        return made

    @cached_property
    def arguments(self) -> Sequence[str]:
        """The same every time."""
        settings = (f"rounds={self.rounds}", "baselines=false")
        return [
            "train",
            PLAN,
            *(part for text in settings for part in ("--set", text)),
            "--run-key",
            self.key,
            "--json",
        ]


class _Process:
    """The command, with what it prints in files."""

    def __init__(self, training: Training, module: Sequence[str]) -> None:
        self._training, self._before = training, training.recorded()
        folder = training.home / "attempts" / f"{training.key}-{len(training.attempts)}"
        folder.mkdir(parents=True)
        self._out, self._err, self._diary = folder / "out", folder / "err", folder / "diary"
        self._began = time.monotonic()
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module, *training.arguments],
                env=environment(training.home, {**training.env, DIARY: str(self._diary)}),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def watch(self, point: str, meanwhile: Meanwhile) -> Attempt:
        """Until it ends."""
        first = None
        while self._process.poll() is None:
            printed = self._err.read_text()
            if first is None and rounds_in(printed):
                first = time.monotonic() - self._began
            meanwhile(printed)
            self._limit()
            time.sleep(_LOOKS_SECONDS)
        texts = self._out.read_text(), self._err.read_text()
        return Attempt(
            point, self._process.returncode, *texts, self._said(), first, self._before, self._training.recorded()
        )

    def _limit(self) -> None:
        if time.monotonic() - self._began > _LONGEST_SECONDS:
            self._process.kill()

    def _said(self) -> tuple[dict[str, Any], ...]:
        lines = self._diary.read_text().splitlines() if self._diary.exists() else []
        return tuple(json.loads(line) for line in lines)


def rounds_in(printed: str) -> list[int]:
    """The rounds in the command's lines."""
    return [int(number) for number in _ROUND.findall(printed)]
