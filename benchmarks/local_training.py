"""Local training, side by side: ``python -m benchmarks.local_training``.

Every contestant trains the same clients in a process of its own, one after the other and then all again, so that a
noisy neighbour hits all alike. Numbers are medians; what stands in brackets is the least and the most of a repetition.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.observed import PROJECT, Observed, observe, train
from benchmarks.report import Table, machine

_FLOWER_PYTHON = PROJECT / ".venv-flower" / "bin" / "python"
_PLAN = "benchmarks/fashion-shaped.yaml"
_CHANGES = {"2nn": (), "cnn": ("model={kind: cnn}",)}
_ALONE = ("evaluate_every=0",)
_REPETITIONS = {"2nn": 3, "cnn": 2}
_FLOWER, _FLOOR, _ENGINE = "Flower's simulation", "floor: a loop written by hand", "Roundhouse's engine"


class Pace(NamedTuple):
    """One repetition: seconds of its rounds or groups of rounds, and CPU seconds a round."""

    seconds: list[float]
    cpu: float


Paces = dict[str, list[Pace]]
"""By contestant, a pace a repetition."""


class Contestant(NamedTuple):
    """A line of the table: what runs so many rounds of a model and gives a pace, or several under longer names."""

    name: str
    run: Callable[[str, int], dict[str, Pace]]
    rounds: dict[str, int]
    promised: dict[str, str]


class Ratio(NamedTuple):
    """How many times as long one takes as another: of the medians, and in the least and the most of the repetitions."""

    medians: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.medians:.2f} ({self.least:.2f}–{self.most:.2f})"


def _in_process(contestant: str) -> Callable[[str, int], dict[str, Pace]]:
    def run(model: str, rounds: int) -> dict[str, Pace]:
        command = [sys.executable, "-m", "benchmarks.contestants", contestant, model, str(rounds)]
        return {"": _pace(observe(command, dict(os.environ), rounds + 1))}

    return run


def _flower(model: str, rounds: int) -> dict[str, Pace]:
    command = [str(flower()), "-m", "benchmarks.flower_round", model, str(rounds)]
    return {"": _pace(observe(command, dict(os.environ), rounds + 1))}


def _product(*changes: str, every: int = 1) -> Callable[[str, int], dict[str, Pace]]:
    """All of Roundhouse, by the end of each round and by the registration of the last version."""

    def run(model: str, rounds: int) -> dict[str, Pace]:
        with tempfile.TemporaryDirectory() as home:
            seen = train(_PLAN, (*_CHANGES[model], *_ALONE, *changes), Path(home), rounds + every, every)
            registered = seen.until(_last_version(Path(home)))
        return {"": _pace(seen), ", to its last version": Pace([registered], seen.cpu)}

    return run


def _pace(seen: Observed) -> Pace:
    return Pace(seen.steps(), seen.cpu)


def _last_version(home: Path) -> float:
    """When it was registered, in seconds since 1970."""
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database:
        ((milliseconds,),) = database.execute("SELECT max(creation_time) FROM model_versions")
    return float(milliseconds) / 1e3


CONTESTANTS = (
    Contestant("textbook: a new model and fit a client", _in_process("textbook"), {"2nn": 2, "cnn": 1}, {}),
    Contestant("one compiled model, set_weights and fit", _in_process("one model"), {"2nn": 4, "cnn": 2}, {}),
    Contestant(_FLOWER, _flower, {"2nn": 4, "cnn": 3}, {}),
    Contestant(_FLOOR, _in_process("floor"), {"2nn": 60, "cnn": 4}, {}),
    Contestant(
        _ENGINE,
        _in_process("engine"),
        {"2nn": 60, "cnn": 4},
        {"2nn": "1.15 × floor, 20 × faster", "cnn": "1.15 × floor, 2.5 × faster"},
    ),
    Contestant(
        "all of Roundhouse",
        _product(),
        {"2nn": 60, "cnn": 4},
        {"2nn": "8 × faster", "cnn": "1.15 × floor, 2.5 × faster"},
    ),
    Contestant(
        "all of Roundhouse, commit_every: 10",
        _product("commit_every=10", every=10),
        {"2nn": 60},
        {"2nn": "1.5 × floor"},
    ),
)


def measure(contestants: Sequence[Contestant] = CONTESTANTS, scale: float = 1.0) -> Table:
    """The table. ``scale`` shortens a trial."""
    flower()
    heading = ("model", "who", "s a round", "CPU s a round", "× engine", "× floor", "faster than Flower", "promised")
    table = Table("Local training: 10 of 100 clients a round, 600 images each, batches of 10, one epoch", heading)
    for model, repetitions in _REPETITIONS.items():
        taking_part = [contestant for contestant in contestants if model in contestant.rounds]
        paces = _race(model, taking_part, max(1, round(repetitions * scale)), scale)
        promised = {contestant.name: contestant.promised.get(model, "") for contestant in taking_part}
        for name in paces:
            table.add(model.upper(), *_cells(name, paces), promised.get(name, ""))
    return table


def _race(model: str, contestants: Sequence[Contestant], repetitions: int, scale: float) -> Paces:
    paces: Paces = {}
    for repetition in range(repetitions):
        for contestant in contestants:
            print(f"{model}, repetition {repetition + 1} of {repetitions}: {contestant.name}", file=sys.stderr)
            rounds = max(1, round(contestant.rounds[model] * scale))
            for suffix, pace in contestant.run(model, rounds).items():
                paces.setdefault(contestant.name + suffix, []).append(pace)
    return paces


def _cells(name: str, paces: Paces) -> list[str]:
    mine = paces[name]
    return [
        name,
        f"{_median(mine):.3f}",
        f"{statistics.median(pace.cpu for pace in mine):.3f}",
        str(_ratio(mine, paces[_ENGINE])),
        str(_ratio(mine, paces[_FLOOR])),
        str(_ratio(paces[_FLOWER], mine)),
    ]


def _ratio(over: list[Pace], under: list[Pace]) -> Ratio:
    each = [_median([one]) / _median([other]) for one, other in zip(over, under, strict=True)]
    return Ratio(_median(over) / _median(under), min(each), max(each))


def _median(paces: list[Pace]) -> float:
    return statistics.median(seconds for pace in paces for seconds in pace.seconds)


def flower() -> Path:
    """The interpreter of Flower's environment.

    Raises:
        SystemExit: there is none.
    """
    found = Path(os.environ.get("FLOWER_PYTHON", _FLOWER_PYTHON))
    if not found.is_file():
        raise SystemExit("Flower has an environment of its own: make .venv-flower/installed, or set FLOWER_PYTHON")
    return found


def main() -> None:
    """Prints the table; a number shortens it to a trial, such as 0.3."""
    print(machine())
    print(measure(scale=float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))


if __name__ == "__main__":
    main()
