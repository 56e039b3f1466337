"""The population stability index."""

from __future__ import annotations

import numpy as np
import pytest

from federated.data import Split
from federated.drift import allowance, count, moved, reference, stability
from federated.scaling import Standardize


def normal(rows: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc=[0, shift, 0], size=(rows, 3)).astype(np.float32)


def moments(rows: np.ndarray):
    return Standardize().fit([Split(rows, np.zeros(len(rows), np.float32))])


def by_hand(before: np.ndarray, now: np.ndarray, edges: np.ndarray) -> float:
    """One feature, by NumPy's histogram and the formula as written, bin by bin."""
    bins = [-np.inf, *edges, np.inf]
    index = 0.0
    for p, q in zip(*(np.histogram(rows, bins)[0] / len(rows) for rows in (before, now)), strict=True):
        if p or q:
            p_, q_ = p or min(0.5 / len(before), q), q or min(0.5 / len(now), p)
            index += (q_ - p_) * np.log(q_ / p_)
    return float(index)


def test_the_index_is_the_formula() -> None:
    before, now = normal(2000), normal(1500, shift=0.7, seed=1)
    known = reference(moments(before), [before])
    found = stability(known.counts, count(known.edges, now))
    expected = [by_hand(before[:, place], now[:, place], known.edges[place]) for place in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_only_the_feature_that_moved_is_seen_to_move() -> None:
    before, now = normal(4000), normal(4000, shift=1.0, seed=1)
    known = reference(moments(before), [before])
    still, moved, also_still = stability(known.counts, count(known.edges, now))
    assert moved > 0.25 > 0.02 > max(still, also_still)


@pytest.mark.parametrize(("before", "now"), [(100, 100), (2000, 60), (300, 900)])
def test_what_chance_gives_is_taken_off(before: int, now: int) -> None:
    """Over a thousand features that have not moved the index is on average what is allowed for."""
    rng = np.random.default_rng(0)
    edges = np.tile(np.linspace(0, 1, 12)[1:-1], (1000, 1))
    counts = [count(edges, rng.random((rows, 1000)).astype(np.float32)) for rows in (before, now)]
    allowed = allowance(*counts).mean()
    assert allowed == pytest.approx(10 * (1 / before + 1 / now), rel=0.01)
    assert stability(*counts).mean() == pytest.approx(allowed, rel=0.15)


@pytest.mark.parametrize(("before", "now"), [(60, 60), (2000, 30), (40, 15)])
def test_what_small_samples_miss_by_chance_is_seldom_a_drift(before: int, now: int) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(before, 1000)).astype(np.float32)
    known = reference(moments(rows), [rows])
    found = moved(known.counts, count(known.edges, rng.normal(size=(now, 1000)).astype(np.float32)))
    assert (found > 0.25).mean() < 0.1


def test_few_rows_that_have_not_moved_are_not_said_to_have() -> None:
    known = reference(moments(normal(60)), [normal(60)])
    found = count(known.edges, normal(60, seed=1))
    assert stability(known.counts, found).max() > 0.25 > moved(known.counts, found).max()


def test_few_rows_that_have_moved_are_still_seen() -> None:
    known = reference(moments(normal(60)), [normal(60)])
    assert moved(known.counts, count(known.edges, normal(60, shift=2.0, seed=1)))[1] > 0.25


def test_nothing_is_never_less_than_nothing() -> None:
    rows = normal(500)
    known = reference(moments(rows), [rows])
    assert (moved(known.counts, count(known.edges, rows)) == 0).all()


def test_bins_that_nobody_is_in_allow_for_nothing() -> None:
    before, now = np.array([[50, 0, 50], [100, 0, 0]]), np.array([[25, 0, 25], [50, 0, 0]])
    np.testing.assert_allclose(allowance(before, now), [1 / 100 + 1 / 50, 0])


def test_the_same_rows_have_not_moved() -> None:
    rows = normal(500)
    known = reference(moments(rows), [rows])
    assert (stability(known.counts, count(known.edges, rows)) == 0).all()


def test_the_parts_may_be_counted_apart() -> None:
    rows = normal(500)
    together, apart = (reference(moments(rows), parts) for parts in ([rows], np.array_split(rows, 7)))
    assert (together.counts == apart.counts).all()
    assert together.counts.sum(axis=1).tolist() == [500, 500, 500]


def test_images_are_counted_pixel_by_pixel() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2, 2, 1)).astype(np.float32)
    known = reference(moments(rows), [rows])
    assert known.counts.shape == (4, 11)


def test_a_feature_that_never_changed_does_not_divide_by_nothing() -> None:
    rows = np.ones((100, 1), np.float32)
    known = reference(moments(rows), [rows])
    assert np.isfinite(stability(known.counts, count(known.edges, rows + 5))).all()


@pytest.mark.parametrize("rows", [0, 3])
def test_other_bins_or_no_rows_are_refused(rows: int) -> None:
    known = reference(moments(normal(50)), [normal(50)])
    other = np.zeros((3, 11), int) if rows == 0 else np.ones((2, 11), int)
    with pytest.raises(ValueError, match=r"needs rows|features in"):
        stability(known.counts, other)
