"""The picture of who holds which rows, as PNG: the same for three clients and for a thousand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from federated.data import Client
from tasks.png import png

_MOST_NAMED = 60  # clients that can be told apart by name
_MOST_COLOURS = 20
_MOST_NAMED_CLASSES = 40
_HEIGHT, _LEAST_HEIGHT, _MOST_HEIGHT = 0.2, 1.6, 9.0  # inches: of a client's line, and of all of them


def who_holds_what(clients: Sequence[Client], labels: Sequence[str] | None) -> bytes:
    """The figure below, as PNG."""
    return png(holdings_figure(clients, labels))


def holdings_figure(clients: Sequence[Client], labels: Sequence[str] | None) -> Figure:
    """Training rows by client and class; without classes, where the targets of each client lie.

    | data | drawn as |
    | --- | --- |
    | at most 60 clients and 20 classes | a bar a client, a colour a class |
    | more of either | a heat map: the share that each class has of a client's rows; and how many these are |
    | regression | each client's targets: median, middle half, 10th to 90th percentile; and its rows |

    More than 60 clients have no names; they are sorted by their largest class, or by their mean target.
    """
    if labels is None:
        return _beside_sizes(_in_order(clients, [float(client.train.y.mean()) for client in clients]), _draw_targets)
    if len(clients) <= _MOST_NAMED and len(labels) <= _MOST_COLOURS:
        return _stacked(clients, labels)
    largest = [(int(np.argmax(shares)), -float(np.max(shares))) for shares in _shares(clients, len(labels))]
    return _beside_sizes(_in_order(clients, largest), partial(_draw_shares, labels=labels))


def _in_order(clients: Sequence[Client], keys: Sequence[Any]) -> Sequence[Client]:
    """Sorted by ``keys``, where they are too many to be looked up by name."""
    if len(clients) <= _MOST_NAMED:
        return clients
    return [clients[place] for place in sorted(range(len(clients)), key=keys.__getitem__)]


def _counts(clients: Sequence[Client], classes: int) -> NDArray[np.intp]:
    """Training rows, shape (clients, classes)."""
    return np.array([np.bincount(client.train.y, minlength=classes) for client in clients])


def _shares(clients: Sequence[Client], classes: int) -> NDArray[np.float64]:
    """Of each client's training rows, shape (clients, classes)."""
    counts = _counts(clients, classes)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _stacked(clients: Sequence[Client], labels: Sequence[str]) -> Figure:
    figure = _figure(clients, fewest_inches=0.23 * len(labels))
    axes = figure.subplots()
    colours = colormaps["tab10" if len(labels) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    counts = _counts(clients, len(labels))
    ends = np.cumsum(counts, axis=1)
    for code, label in enumerate(labels):
        width = counts[:, code]
        axes.barh(range(len(clients)), width, left=ends[:, code] - width, label=label, color=colours[code])
    _name_clients(axes, clients, "")
    axes.set_xlabel("training rows")
    _plain(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def _beside_sizes(clients: Sequence[Client], draw: Callable[[Axes, Sequence[Client]], str]) -> Figure:
    """What clients hold on the left, and how many rows on the right."""
    figure = _figure(clients)
    held, sizes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    _name_clients(held, clients, order=draw(held, clients))
    _draw_sizes(sizes, [len(client.train) for client in clients])
    sizes.set_xlabel("training rows")
    sizes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    _plain(sizes)
    return figure


def _draw_sizes(axes: Axes, rows: Sequence[int]) -> None:
    """Bars; without gaps where these would be narrower than a pixel."""
    if len(rows) <= _MOST_NAMED:
        axes.barh(range(len(rows)), rows, color="C7")
    else:
        axes.stairs(rows, np.arange(len(rows) + 1) - 0.5, orientation="horizontal", fill=True, color="C7")


def _draw_shares(axes: Axes, clients: Sequence[Client], labels: Sequence[str]) -> str:
    """Gives what many clients are sorted by."""
    shares = _shares(clients, len(labels))
    image = axes.imshow(shares, aspect="auto", cmap="Blues", vmin=0, interpolation="nearest")
    axes.set_xlabel("class")
    if len(labels) <= _MOST_NAMED_CLASSES:
        axes.set_xticks(range(len(labels)), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
    bar = axes.figure.colorbar(image, ax=axes, location="left", shrink=0.6, pad=0.02)
    bar.set_label("share of the client's rows")
    return "their largest class"


def _draw_targets(axes: Axes, clients: Sequence[Client]) -> str:
    """Gives what many clients are sorted by."""
    low, quarter, median, three, high = np.array(
        [np.percentile(client.train.y, (10, 25, 50, 75, 90)) for client in clients]
    ).T
    if len(clients) <= _MOST_NAMED:
        _draw_bars(axes, (low, high), (quarter, three), median)
    else:
        _draw_bands(axes, (low, high), (quarter, three), median)
    axes.set_xlabel("target")
    _plain(axes)
    axes.figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return "their mean target"


_Band = tuple[NDArray[np.float64], NDArray[np.float64]]
_WIDE_BAND: dict[str, Any] = {"color": "C0", "alpha": 0.35, "label": "10th to 90th percentile"}
_NARROW_BAND: dict[str, Any] = {"color": "C0", "alpha": 0.6, "label": "middle half"}


def _draw_bars(axes: Axes, wide: _Band, narrow: _Band, median: NDArray[np.float64]) -> None:
    places = range(len(median))
    axes.use_sticky_edges = False  # a bar may begin anywhere
    axes.barh(places, wide[1] - wide[0], left=wide[0], height=0.4, **_WIDE_BAND)
    axes.barh(places, narrow[1] - narrow[0], left=narrow[0], height=0.8, **_NARROW_BAND)
    axes.plot(median, places, "|", color="black", markersize=8, label="median")


def _draw_bands(axes: Axes, wide: _Band, narrow: _Band, median: NDArray[np.float64]) -> None:
    places = np.arange(len(median))
    axes.fill_betweenx(places, *wide, step="mid", linewidth=0, **_WIDE_BAND)
    axes.fill_betweenx(places, *narrow, step="mid", linewidth=0, **_NARROW_BAND)
    axes.plot(median, places, ".", color="black", markersize=3, label="median")


def _name_clients(axes: Axes, clients: Sequence[Client], order: str) -> None:
    """The first on top; by name where there is room."""
    axes.set_ylim(len(clients) - 0.5, -0.5)
    if len(clients) <= _MOST_NAMED:
        axes.set_yticks(range(len(clients)), [client.name for client in clients])
    else:
        axes.set_yticks([])
        axes.set_ylabel(f"{len(clients)} clients, by {order}")


def _figure(clients: Sequence[Client], fewest_inches: float = 0.0) -> Figure:
    height = np.clip(max(_HEIGHT * len(clients), fewest_inches), _LEAST_HEIGHT, _MOST_HEIGHT)
    figure = Figure(figsize=(9, float(height) + 1.1), layout="constrained")
    figure.suptitle("Who holds what")
    return figure


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
