"""What ``make privacy`` writes: the section's text and table, and the picture."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import Table, machine
from configs.plan import Plan
from federated.engine import Engine
from federated.federation import Federation

_READING = Path(__file__).with_name("privacy-reading.md")
_TITLE = "What privacy costs in accuracy"
_WIDTH = 150
_BESIDE = 0.06  # of a doubling of epsilon: families side by side hide nobody's range


class Cell(NamedTuple):
    """``accuracies`` are the final model's on the server's test rows, one a seed; a ``noise`` of 0 is none."""

    epsilon: float
    noise: float
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))


class Told(NamedTuple):
    """A family's cells, what was trained, and what its epsilons are of."""

    name: str
    setting: str
    unit: str
    delta: float
    rate: float
    cells: Sequence[Cell]

    @property
    def promise(self) -> str:
        """What its epsilons are of: none is shown without it."""
        return f"one {self.unit}, added or removed; delta {self.delta:g}; Poisson sampling"


def setting(plan: Plan, federation: Federation, engine: Engine) -> str:
    """What was trained, in words, from what was trained."""
    algorithm, rows = plan.algorithm, [len(client.train) for client in federation.clients.values()]
    local, rate = algorithm.local, algorithm.select.sampling_rate
    norm, speed = algorithm.transforms[0].model_dump()["norm"], local.optimizer.model_dump()["learning_rate"]
    return (
        f"{len(rows):,} clients of {np.median(rows):.0f} training rows (IID), {plan.rounds} rounds, each client in a "
        f"round with probability {rate:g}; a {plan.model.kind} model of {engine.size:,} parameters, {local.epochs} "
        f"local epochs in batches of {local.batch_size} by SGD at {speed:g}; updates clipped "
        f"to {norm:g}; {len(federation.test):,} test rows"
    )


def section(told: Sequence[Told], left_out: Sequence[str], seeds: Sequence[int]) -> str:
    """The section of ``docs/privacy.md``."""
    table = Table(_TITLE, ("data", "epsilon", "noise multiplier", "accuracy in %"))
    for family in told:
        for cell in family.cells:
            table.add(family.name, _epsilon(cell), *_numbers(cell))
    heading, _, lines = str(table).partition("\n")
    said = (
        "`make privacy` writes this section. Accuracy is the final model's on the server's test rows: the mean of "
        f"seeds {', '.join(map(str, seeds))}, and in brackets their range. Epsilon is what the whole training costs. "
        "The noise multiplier is the least that keeps to it; `infinite` is the same training, clipped the same, "
        "without noise."
    )
    trained = [f"- **{family.name}** ({family.promise}): {family.setting}." for family in told]
    points = [
        textwrap.fill(text, _WIDTH, subsequent_indent="  ") for text in (*trained, *(f"- {one}." for one in left_out))
    ]
    picture, reading = f"![{_TITLE}](images/privacy-utility.png)", _READING.read_text(encoding="utf-8")
    parts = [heading, textwrap.fill(said, _WIDTH), "\n".join(points), picture, lines, reading, machine()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def draw(told: Sequence[Told]) -> bytes:
    """Accuracy against epsilon, as PNG: families whose epsilons say the same are side by side."""
    promises = list(dict.fromkeys(family.promise for family in told))
    figure = Figure(figsize=(1 + 6.5 * len(promises), 4.4), layout="constrained")
    for axes, promise in zip(figure.subplots(1, len(promises), squeeze=False)[0], promises, strict=True):
        _panel(axes, [family for family in told if family.promise == promise])
        axes.set_xlabel(f"epsilon of the whole training ({promise})")
    figure.suptitle(f"{_TITLE}: mean and range of seeds")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def _panel(axes: Axes, told: Sequence[Told]) -> None:
    """On a scale of doublings; infinity is the last tick."""
    finite = sorted({cell.epsilon for family in told for cell in family.cells if cell.epsilon < math.inf})
    last = math.log2(finite[-1]) + 1
    for place, family in enumerate(told):
        _line(axes, family, last, (place - (len(told) - 1) / 2) * _BESIDE)
    axes.set_xticks([*map(math.log2, finite), last], [*(f"{epsilon:g}" for epsilon in finite), "∞ (no noise)"])
    axes.set_ylabel("accuracy on test rows, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")


def _line(axes: Axes, family: Told, last: float, aside: float) -> None:
    x = [aside + (last if cell.epsilon == math.inf else math.log2(cell.epsilon)) for cell in family.cells]
    means = [100 * cell.mean for cell in family.cells]
    below = [100 * (cell.mean - min(cell.accuracies)) for cell in family.cells]
    above = [100 * (max(cell.accuracies) - cell.mean) for cell in family.cells]
    label = f"{family.name}: each {family.unit} in a round with probability {family.rate:g}"
    axes.errorbar(x, means, (below, above), label=label, marker="o", markersize=5, capsize=4)


def _epsilon(cell: Cell) -> str:
    return "infinite" if cell.epsilon == math.inf else f"{cell.epsilon:g}"


def _numbers(cell: Cell) -> tuple[str, str]:
    low, high = 100 * min(cell.accuracies), 100 * max(cell.accuracies)
    return f"{cell.noise:.4f}" if cell.noise else "none", f"{100 * cell.mean:.1f} ({low:.1f}–{high:.1f})"
