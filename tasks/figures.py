"""The pictures of a training, as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from configs.plan import Plan
from federated.federation import Federation
from tasks.holdings_figure import who_holds_what
from tasks.png import png
from tasks.training import RoundReport

Rows = NDArray[np.float32]

_TITLE_WIDTH = 90  # characters that a picture has room for


def draw(
    plan: Plan, federation: Federation, reports: Sequence[RoundReport], predict: Callable[[Rows], Rows]
) -> Iterator[tuple[str, bytes]]:
    """Every figure that the plan and these data allow, with its name."""
    score = score_name(federation)
    yield "metrics-by-round", metrics_by_round(reports, score)
    yield "clients-by-round", clients_by_round(reports, score)
    if plan.privacy is not None:
        yield "epsilon-by-round", epsilon_by_round(reports, reports[-1].means, plan.privacy.budget)
    yield "who-holds-what", who_holds_what(list(federation.clients.values()), federation.labels)
    if federation.labels is None and federation.inputs == (1,):
        yield "fitted-line", fitted_line(federation, predict)


def score_name(federation: Federation) -> str:
    """What beside the loss is measured on these data."""
    return "mae" if federation.labels is None else "accuracy"


def metrics_by_round(reports: Sequence[RoundReport], score: str) -> bytes:
    """Loss and score on the validation rows, for every round that was evaluated; without such rows, on clients'."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", score), strict=True):
        if any(name in report.metrics for report in reports):
            _plot(axes, reports, name, "validation")
        else:
            _plot(axes, reports, f"client_{name}_median", "clients' own test rows, median")
        if name == "loss":
            _plot(axes, reports, "train_loss", "local training")
        _decorate(axes, "round", name)
    figure.suptitle("Global model by round")
    return png(figure)


def clients_by_round(reports: Sequence[RoundReport], score: str) -> bytes:
    """How the score is distributed over the clients' own test rows, for every round that was evaluated."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    measured = [report for report in reports if report.spread]
    rounds = [report.round for report in measured]
    low, tenth, median, ninetieth, high = np.array([report.spread for report in measured]).T
    axes.fill_between(rounds, low, high, alpha=0.15, color="C0", label="all clients")
    axes.fill_between(rounds, tenth, ninetieth, alpha=0.3, color="C0", label="10th to 90th percentile")
    axes.plot(rounds, median, color="C0", label="median", marker=_marker(rounds))
    _decorate(axes, "round", f"{score} on own test rows")
    figure.suptitle("Global model over clients")
    return png(figure)


def epsilon_by_round(reports: Sequence[RoundReport], means: str, budget: float | None) -> bytes:
    """The privacy that was spent, and the budget."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    _plot(axes, reports, "epsilon", "spent so far")
    if budget is not None:
        axes.axhline(budget, color="black", linestyle="--", linewidth=1, label="budget")
    axes.set_ylim(bottom=0)
    _decorate(axes, "round", "epsilon")
    figure.suptitle(f"Privacy by round\n{fill(means, _TITLE_WIDTH)}", fontsize="medium")
    return png(figure)


def fitted_line(federation: Federation, predict: Callable[[Rows], Rows]) -> bytes:
    """One feature, one value: every client's training points, and what the global model says of raw rows."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    mean, std = federation.scaling
    points = {name: client.train.x * std + mean for name, client in federation.clients.items()}
    for name, x in points.items():
        axes.scatter(x[:, 0], federation.clients[name].train.y, s=9, alpha=0.6, label=name)
    everywhere = np.concatenate(list(points.values()))
    grid = np.linspace(everywhere.min(), everywhere.max(), 50, dtype=np.float32)[:, np.newaxis]
    axes.plot(grid[:, 0], predict(grid)[:, 0], color="black", label="global model")
    _decorate(axes, "x", "y")
    figure.suptitle("Clients' points and the global model")
    return png(figure)


def _plot(axes: Axes, reports: Sequence[RoundReport], name: str, label: str) -> None:
    rounds = [report.round for report in reports if name in report.metrics]
    values = [report.metrics[name] for report in reports if name in report.metrics]
    axes.plot(rounds, values, label=label, marker=_marker(rounds))


def _marker(rounds: Sequence[int]) -> str:
    """A line through one point cannot be seen."""
    return "o" if len(rounds) == 1 else ""


def _decorate(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=x_label == "round"))
    axes.legend(frameon=False)
