"""Aggregation rules beside the least that NumPy can do, and beside Flower: ``python -m benchmarks.aggregation``.

100 updates of the FedAvg paper's CNN, 1.66 million numbers each; where Flower runs Bulyan, they are 11. Each rule takes
turns with its floor, so that a noisy neighbour hits both alike; Flower runs in a process of its own in the middle.
Seconds are medians. Memory is what a call holds besides the updates.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmarks.flower_aggregation import BYZANTINE, COHORT, FEW, TRIM, cohort, extra_memory, seconds
from benchmarks.local_training import flower
from benchmarks.observed import PROJECT
from benchmarks.report import Table, machine
from federated.component import Vector
from federated.rules import (
    Bulyan,
    CenteredClip,
    FedNova,
    FlTrust,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    NormBoundedMean,
    QFedAvg,
    Rule,
    TrimmedMean,
    WeightedMean,
)
from federated.updates import Update

_WIDTH, _REPETITIONS, _COLUMNS = 512, 5, 4096
_NEVER_SLOWER = "1 ×"


class Contest(NamedTuple):
    """A rule, how many updates it gets, what it is measured against, and what is promised of that and of Flower."""

    rule: Rule
    clients: int
    floor: str
    promised: str
    flower: str


_CONTESTS = (
    Contest(Mean(), COHORT, "adding", "1.5 ×", "2 ×"),
    Contest(WeightedMean(), COHORT, "adding", "1.5 ×", _NEVER_SLOWER),
    Contest(FedNova(), COHORT, "adding", "", ""),
    Contest(Median(), COHORT, "partitioning", "2 ×", _NEVER_SLOWER),
    Contest(TrimmedMean(trim=TRIM), COHORT, "partitioning", "2 ×", _NEVER_SLOWER),
    Contest(Krum(byzantine=BYZANTINE), COHORT, "multiplying", "", _NEVER_SLOWER),
    Contest(MultiKrum(byzantine=BYZANTINE), COHORT, "multiplying", "", _NEVER_SLOWER),
    Contest(Bulyan(byzantine=BYZANTINE), FEW, "partitioning", "", _NEVER_SLOWER),
    Contest(Bulyan(byzantine=BYZANTINE), COHORT, "partitioning", "", ""),
    Contest(GeometricMedian(), COHORT, "multiplying", "", ""),
    Contest(CenteredClip(radius=100.0), COHORT, "adding", "", ""),
    Contest(FlTrust(), COHORT, "adding", "", ""),
    Contest(NormBoundedMean(), COHORT, "adding", "", ""),
    Contest(QFedAvg(lipschitz=10.0), COHORT, "adding", "", ""),
)


def _adding(vectors: Sequence[Vector]) -> None:
    total = vectors[0].copy()
    for vector in vectors[1:]:
        np.add(total, vector, out=total)


def _partitioning(vectors: Sequence[Vector]) -> None:
    middle = ((len(vectors) - 1) // 2, len(vectors) // 2)
    for start in range(0, vectors[0].size, _COLUMNS):
        block = np.stack([vector[start : start + _COLUMNS] for vector in vectors])
        block.partition(middle, axis=0)


def _multiplying(vectors: Sequence[Vector]) -> None:
    total = np.zeros((len(vectors), len(vectors)))
    for start in range(0, vectors[0].size, _COLUMNS):
        block = np.stack([vector[start : start + _COLUMNS] for vector in vectors]).astype(np.float64)
        total += block @ block.T


_FLOORS = {"adding": _adding, "partitioning": _partitioning, "multiplying": _multiplying}
_FLOOR_NAMES = {
    "adding": "adding them up",
    "partitioning": "numpy.partition by blocks of columns",
    "multiplying": "their products by blocks, float64",
}


class Turn(NamedTuple):
    """Median seconds of a rule and of its floor, and the bytes that the rule held."""

    rule: float
    floor: float
    memory: int


def measure(width: int = _WIDTH) -> Table:
    """The table."""
    updates = [replace(Update(f"client-{n:03}", d, 1.0 + n), loss=1.0 + n) for n, d in enumerate(cohort(width))]
    half = _REPETITIONS // 2
    before = [_turns(contest, updates, half) for contest in _CONTESTS]
    theirs = _flower(width)
    after = [_turns(contest, updates, _REPETITIONS - half) for contest in _CONTESTS]
    title = f"Aggregation: {COHORT} updates of {updates[0].delta.size:,} numbers"
    table = Table(
        title, ("rule", "updates", "s", "floor", "× floor", "promised", "× Flower's speed", "promised", "memory")
    )
    for contest, early, late in zip(_CONTESTS, before, after, strict=True):
        turn = _median([*early, *late])
        speed = theirs[contest.rule.kind][0] / turn.rule if contest.flower else None
        table.add(
            contest.rule.kind,
            str(contest.clients),
            f"{turn.rule:.3f}",
            _FLOOR_NAMES[contest.floor],
            f"{turn.rule / turn.floor:.2f}",
            contest.promised,
            "" if speed is None else f"{speed:.1f}",
            contest.flower,
            f"{turn.memory / 1e6:.0f} MB",
        )
    table.add("Flower's mean", str(COHORT), f"{theirs['mean'][0]:.3f}", *[""] * 5, f"{theirs['mean'][1] / 1e6:.0f} MB")
    return table


def _turns(contest: Contest, updates: Sequence[Update], times: int) -> list[Turn]:
    given = updates[: contest.clients]
    vectors, floor = [one.delta for one in given], _FLOORS[contest.floor]
    state = contest.rule.guided(contest.rule.init(vectors[0].size), vectors[0])
    act: Callable[[], object] = lambda: contest.rule.next(state, given)  # noqa: E731
    memory = extra_memory(act)
    return [Turn(seconds(act), seconds(lambda: floor(vectors)), memory) for _ in range(times)]


def _median(turns: Sequence[Turn]) -> Turn:
    rule, floor = (statistics.median(column) for column in ([t.rule for t in turns], [t.floor for t in turns]))
    return Turn(rule, floor, turns[0].memory)


def _flower(width: int) -> dict[str, tuple[float, int]]:
    """Flower's seconds and bytes, by rule."""
    command = [str(flower()), "-m", "benchmarks.flower_aggregation", str(width)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, check=True)
    return {name: (float(time), int(memory)) for name, (time, memory) in json.loads(done.stdout).items()}


def main() -> None:
    """Prints the table; a number of units makes the updates smaller for a trial, such as 16."""
    print(machine())
    print(measure(int(sys.argv[1]) if len(sys.argv) > 1 else _WIDTH))


if __name__ == "__main__":
    main()
