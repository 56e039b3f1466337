"""What ``make privacy`` writes: the page's text and tables, and the picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report import Table, machine
from configs.plan import Plan
from federated.engine import Engine
from federated.federation import Federation
from tasks.png import png

_READING = Path(__file__).with_name("privacy-reading.md")
_TITLE = "What privacy costs in accuracy"
_WIDTH = 150
_DEALT = {"iid": "IID", "natural": "each its own"}
_BESIDE = 0.06  # of a doubling of epsilon: families side by side hide nobody's range


class Judged(NamedTuple):
    """How right a model is on test rows; ``parts`` has it by client, where those are told apart, and over all rows."""

    accuracy: float
    parts: Mapping[str, float]


class Cell(NamedTuple):
    """The final models, one a seed; a ``noise`` of 0 is none."""

    epsilon: float
    noise: float
    judged: tuple[Judged, ...]

    @property
    def accuracies(self) -> tuple[float, ...]:
        return tuple(one.accuracy for one in self.judged)

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))


class Told(NamedTuple):
    """A family's cells, what was trained, and what its epsilons are of: none is shown without it.

    ``drawn`` is who is in a round, ``guess`` how right one answer to all rows would be.
    """

    name: str
    setting: str
    promise: str
    drawn: str
    cells: Sequence[Cell]
    guess: Judged | None = None


def setting(plan: Plan, federation: Federation, engine: Engine, drawn: str) -> str:
    """What was trained, in words, from what was trained without noise."""
    algorithm, local = plan.algorithm, plan.algorithm.local
    speed = local.optimizer.model_dump()["learning_rate"]
    batches = f"in batches of {local.batch_size}" if local.batch_size else "on all rows"
    length = f"{local.steps} local steps" if local.steps else f"{local.epochs} local epochs"
    clipped = f"gradients of examples clipped to {local.clip_examples:g}" if local.clip_examples else ""
    if algorithm.transforms:
        clipped = f"updates clipped to {algorithm.transforms[0].model_dump()['norm']:g}"
    return (
        f"{_parties(federation)} ({_DEALT[plan.partition.kind]}), {plan.rounds} rounds, {drawn}; "
        f"a {plan.model.kind} model of {engine.size:,} parameters, {length} {batches} by SGD at {speed:g}; "
        f"{clipped}; {len(federation.test):,} test rows"
    )


def _parties(federation: Federation) -> str:
    rows = sorted(len(client.train) for client in federation.clients.values())
    each = f"{rows[0]} to {rows[-1]}" if rows[-1] > rows[0] + 1 else f"{np.median(rows):.0f}"
    return f"{len(rows):,} clients of {each} training rows"


def page(told: Sequence[Told], left_out: Sequence[str], seeds: Sequence[int]) -> str:
    """The whole of ``docs/privacy-utility.md``."""
    table = Table(_TITLE, ("data", "epsilon", "noise multiplier", "accuracy in %"))
    for family in told:
        for cell in family.cells:
            table.add(family.name, _epsilon(cell), *_numbers(cell))
    lines = str(table).partition("\n")[2]
    said = (
        "`make privacy` writes this page. Accuracy is the final model's on test rows: the mean of "
        f"seeds {', '.join(map(str, seeds))}, and in brackets their range. Epsilon is what the whole training costs. "
        "The noise multiplier is the least that keeps to it; `infinite` is the same training, clipped the same, "
        "without noise. All of it is simulated, with noise that a seed repeats: so it protects nobody, and shows what "
        "the same noise from the operating system's entropy costs."
    )
    trained = [f"- **{family.name}** ({family.promise}): {family.setting}." for family in told]
    points = [
        textwrap.fill(text, _WIDTH, subsequent_indent="  ") for text in (*trained, *(f"- {one}." for one in left_out))
    ]
    picture, reading = f"![{_TITLE}](images/privacy-utility.png)", _READING.read_text(encoding="utf-8")
    tables = [lines, *(_by_client(family) for family in told if family.guess)]
    parts = [f"# {_TITLE}", textwrap.fill(said, _WIDTH), "\n".join(points), picture, *tables, reading, machine()]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _by_client(told: Told) -> str:
    """A family's cells for each client's own test rows."""
    guess = told.guess or Judged(0.0, {})
    table = Table("", ("epsilon", *guess.parts, "mean of clients"))
    for cell in told.cells:
        means = [np.mean([one.parts[name] for one in cell.judged]) for name in guess.parts]
        table.add(_epsilon(cell), *(f"{100 * number:.1f}" for number in (*means, cell.mean)))
    table.add(
        "the commonest answer to all", *(f"{100 * number:.1f}" for number in (*guess.parts.values(), guess.accuracy))
    )
    return f"**{told.name}** by client, accuracy in %, means of seeds:\n\n" + str(table).partition("\n")[2].strip()


def draw(told: Sequence[Told]) -> bytes:
    """Accuracy against epsilon, as PNG: families whose epsilons say the same are side by side."""
    promises = list(dict.fromkeys(family.promise for family in told))
    figure = Figure(figsize=(1 + 6.5 * len(promises), 4.8), layout="constrained")
    for axes, promise in zip(figure.subplots(1, len(promises), squeeze=False)[0], promises, strict=True):
        _panel(axes, [family for family in told if family.promise == promise])
        axes.set_xlabel(f"epsilon of the whole training\n({promise})")
    figure.suptitle(f"{_TITLE}: mean and range of seeds")
    return png(figure)


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
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def _line(axes: Axes, family: Told, last: float, aside: float) -> None:
    x = [aside + (last if cell.epsilon == math.inf else math.log2(cell.epsilon)) for cell in family.cells]
    means = [100 * cell.mean for cell in family.cells]
    below = [100 * (cell.mean - min(cell.accuracies)) for cell in family.cells]
    above = [100 * (max(cell.accuracies) - cell.mean) for cell in family.cells]
    label = f"{family.name}: {family.drawn}"
    axes.errorbar(x, means, (below, above), label=label, marker="o", markersize=5, capsize=4)
    if family.guess:
        axes.axhline(100 * family.guess.accuracy, color="grey", linestyle=":", label="the commonest answer to all rows")


def _epsilon(cell: Cell) -> str:
    return "infinite" if cell.epsilon == math.inf else f"{cell.epsilon:g}"


def _numbers(cell: Cell) -> tuple[str, str]:
    low, high = 100 * min(cell.accuracies), 100 * max(cell.accuracies)
    return f"{cell.noise:.4f}" if cell.noise else "none", f"{100 * cell.mean:.1f} ({low:.1f}–{high:.1f})"
