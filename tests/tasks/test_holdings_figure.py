"""The picture of who holds what: what it draws is what clients hold, whatever their number."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from federated.data import Client, Split
from tasks.holdings_figure import holdings_figure, who_holds_what


def client(number: int, y: np.ndarray) -> Client:
    split = Split(np.zeros((len(y), 1), np.float32), y)
    return Client(f"client-{number:03}", split, split)


def of_classes(counts: np.ndarray) -> list[Client]:
    """Clients with so many rows of each class, from shape (clients, classes)."""
    return [client(number, np.repeat(np.arange(len(row)), row).astype(np.int32)) for number, row in enumerate(counts)]


def of_targets(clients: int) -> list[Client]:
    rng = np.random.default_rng(0)
    return [client(n, rng.normal(n % 7, 1, 10 + n).astype(np.float32)) for n in range(clients)]


def named(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


def names_beside(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def sizes_in(figure: Figure) -> list[float]:
    """The rows of each client, as drawn on the right, from the top down."""
    axes = figure.axes[1]
    if axes.containers:
        return [bar.get_width() for bar in axes.containers[0]]
    return list(axes.patches[0].get_data().values)


@pytest.mark.parametrize(("clients", "classes"), [(3, 4), (60, 10), (12, 20)])
def test_few_clients_have_a_bar_each_with_a_length_of_colour_for_the_rows_of_a_class(clients, classes) -> None:
    counts = np.random.default_rng(0).integers(0, 100, (clients, classes)) + np.arange(classes)
    (axes,) = holdings_figure(of_classes(counts), named(classes)).axes
    drawn = np.array([[bar.get_width() for bar in bars] for bars in axes.containers]).T
    np.testing.assert_array_equal(drawn, counts)
    starts = np.array([[bar.get_x() for bar in bars] for bars in axes.containers]).T
    np.testing.assert_array_equal(starts, np.cumsum(counts, axis=1) - counts)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == named(classes)
    assert len({to_hex(bars[0].get_facecolor()) for bars in axes.containers}) == classes
    assert names_beside(axes) == [f"client-{number:03}" for number in range(clients)]
    assert axes.yaxis_inverted()


def test_many_classes_are_a_heat_map_of_their_shares_beside_the_clients_rows() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (30, 25)) + 1
    figure = holdings_figure(of_classes(counts), named(25))
    held = figure.axes[0]
    np.testing.assert_allclose(held.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
    assert [label.get_text() for label in held.get_xticklabels()] == named(25)
    assert names_beside(held) == [f"client-{number:03}" for number in range(30)]
    assert sizes_in(figure) == counts.sum(axis=1).tolist()


def test_many_clients_are_sorted_by_their_largest_class() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (100, 10)) + 1
    figure = holdings_figure(of_classes(counts), named(10))
    shares = np.asarray(figure.axes[0].images[0].get_array())
    largest = shares.argmax(axis=1)
    assert (np.diff(largest) >= 0).all()
    for label in range(10):
        assert (np.diff(shares[largest == label].max(axis=1)) <= 0).all()
    expected = counts / counts.sum(axis=1, keepdims=True)
    assert {tuple(row) for row in shares} == {tuple(row) for row in expected}
    rows = dict(zip(map(tuple, expected), counts.sum(axis=1), strict=True))
    assert sizes_in(figure) == [rows[tuple(row)] for row in shares]
    assert names_beside(figure.axes[0]) == []
    assert figure.axes[0].get_ylabel() == "100 clients, by their largest class"


def test_the_targets_of_few_clients_are_drawn_where_they_lie() -> None:
    clients = of_targets(12)
    figure = holdings_figure(clients, None)
    held = figure.axes[0]
    for bars, (low, high) in zip(held.containers, [(10, 90), (25, 75)], strict=True):
        for bar, one in zip(bars, clients, strict=True):
            ends = (bar.get_x(), bar.get_x() + bar.get_width())
            assert ends == pytest.approx(np.percentile(one.train.y, (low, high)))
    np.testing.assert_allclose(held.lines[0].get_xdata(), [np.median(one.train.y) for one in clients])
    assert sizes_in(figure) == [len(one.train) for one in clients]
    assert names_beside(held) == [one.name for one in clients]


def test_the_targets_of_many_clients_are_bands_sorted_by_their_mean() -> None:
    clients = of_targets(200)
    figure = holdings_figure(clients, None)
    in_order = sorted(clients, key=lambda one: one.train.y.mean())
    held = figure.axes[0]
    np.testing.assert_allclose(held.lines[0].get_xdata(), [np.median(one.train.y) for one in in_order])
    for band, (low, high) in zip(held.collections, [(10, 90), (25, 75)], strict=True):
        ends = np.array([np.percentile(one.train.y, (low, high)) for one in in_order])
        drawn = band.get_paths()[0].vertices[:, 0]
        assert (drawn.min(), drawn.max()) == pytest.approx((ends.min(), ends.max()))
        assert np.isin(ends.ravel().round(6), drawn.round(6)).all()
    assert sizes_in(figure) == [len(one.train) for one in in_order]
    assert held.get_ylabel() == "200 clients, by their mean target"


@pytest.mark.parametrize("labels", [tuple("abcde"), None], ids=["classes", "targets"])
@pytest.mark.parametrize("clients", [1, 7, 61, 1000])
def test_a_page_holds_any_number_of_clients(clients: int, labels: tuple[str, ...] | None) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (clients, 5)) + 1
    picture = who_holds_what(of_targets(clients) if labels is None else of_classes(counts), labels)
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    height, width = image.imread(io.BytesIO(picture)).shape[:2]
    assert width == 990
    assert 250 < height < 1200
