"""The population stability index."""

from __future__ import annotations

import numpy as np
import pytest

from federated.data import Split
from federated.drift import count, reference, stability
from federated.scaling import Standardize


def normal(rows: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(loc=[0, shift, 0], size=(rows, 3)).astype(np.float32)


def moments(rows: np.ndarray):
    return Standardize().fit([Split(rows, np.zeros(len(rows), np.float32))])


def by_hand(before: np.ndarray, now: np.ndarray, edges: np.ndarray) -> float:
    """One feature, by NumPy's histogram and the formula as written."""
    bins = [-np.inf, *edges, np.inf]
    p, q = (np.histogram(rows, bins)[0] / len(rows) for rows in (before, now))
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


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
