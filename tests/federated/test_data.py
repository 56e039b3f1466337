"""A data set is checked when it is built."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy.stats import kstest

from federated.data import Dataset, Split, concatenate
from federated.errors import DataError

NAMES = ("no", "yes")


def dataset(x, y, labels=NAMES, keys=None) -> Dataset:
    targets = np.asarray(y, np.float32 if labels is None else np.int32)
    return Dataset(Split(np.asarray(x, np.float32), targets), labels, "data.mine", keys)


def test_splits_are_taken_and_joined_row_by_row() -> None:
    rows = dataset([[1], [2], [3]], [0, 1, 0]).rows
    taken = rows.take(np.array([2, 0]))
    assert (taken.x.tolist(), taken.y.tolist(), len(taken)) == ([[3], [1]], [0, 0], 2)
    joined = concatenate([taken, rows])
    assert (joined.x[:, 0].tolist(), joined.y.tolist()) == ([3, 1, 1, 2, 3], [0, 0, 0, 1, 0])


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_among_features_is_counted_and_located(wrong) -> None:
    expected = r"data\.mine: NaN or infinity in 2 rows, the first is row 2 \(counted from 1\); fill or drop them"
    with pytest.raises(DataError, match=expected):
        dataset([[0, 1], [wrong, 1], [0, 1], [wrong, wrong]], [0, 1, 0, 1])


def test_nan_in_an_image_is_located_by_its_row() -> None:
    images = np.zeros((3, 2, 2, 1))
    images[2, 1, 1, 0] = np.nan
    with pytest.raises(DataError, match=r"in 1 rows, the first is row 3 \(counted from 1\)"):
        dataset(images, [0, 1, 0])


def test_nan_among_the_targets_is_refused() -> None:
    with pytest.raises(DataError, match=r"data\.mine: NaN or infinity among the targets"):
        dataset([[0], [1]], [0, np.nan], labels=None)


def test_as_many_targets_as_rows() -> None:
    with pytest.raises(DataError, match=r"data\.mine: 2 rows of features but 3 targets"):
        dataset([[0], [1]], [0, 1, 0])


@pytest.mark.parametrize("name", ["", " "])
def test_a_client_has_a_name(name) -> None:
    with pytest.raises(
        DataError, match=r"data\.mine: 1 rows are of a client without a name; name it or leave them out"
    ):
        dataset([[0], [1]], [0, 1], keys=np.array(["a", name]))


def test_as_many_client_keys_as_rows() -> None:
    with pytest.raises(DataError, match=r"data\.mine: 2 rows but 1 client keys"):
        dataset([[0], [1]], [0, 1], keys=np.array(["a"]))


def test_as_many_marks_of_reserved_rows_as_rows() -> None:
    rows = Split(np.zeros((2, 1), np.float32), np.array([0, 1], np.int32))
    with pytest.raises(DataError, match=r"data\.mine: 2 rows but 3 marks of reserved rows"):
        Dataset(rows, NAMES, "data.mine", reserved=np.zeros(3, np.bool_))


@pytest.mark.parametrize(
    ("x", "y", "labels", "expected"),
    [
        (
            [[0], [np.nan], [0]],
            [0, 1, 0],
            NAMES,
            r"in 1 rows, the first is row 2 \(counted from 1\) of client 'b'; fill or drop them",
        ),
        (
            [[0], [0], [0]],
            [0, 1, np.nan],
            None,
            r"targets of 1 rows, the first is row 3 \(counted from 1\) of client 'c'",
        ),
        (
            [[0], [0], [0]],
            [0, 7, 0],
            NAMES,
            r"must lie in 0 … 1, got 0 … 7; the first is row 2 \(counted from 1\) of client 'b'",
        ),
    ],
    ids=["features", "targets", "labels"],
)
def test_a_bad_row_is_told_with_its_client(x, y, labels, expected) -> None:
    with pytest.raises(DataError, match=expected):
        dataset(x, y, labels, np.array(["a", "b", "c"]))


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"data\.mine: there are no rows"):
        dataset(np.zeros((0, 2)), [])


def test_one_class_is_not_a_classification() -> None:
    with pytest.raises(DataError, match=r"needs at least 2 classes, got \['no'\]"):
        dataset([[0], [1]], [0, 0], labels=("no",))


@pytest.mark.parametrize("wrong", [[-1, 1], [0, 2]])
def test_class_numbers_lie_in_the_range_of_the_labels(wrong) -> None:
    expected = rf"class numbers must lie in 0 … 1, got {min(wrong)} … {max(wrong)}"
    with pytest.raises(DataError, match=expected):
        dataset([[0], [1]], wrong)


def test_every_class_number_of_the_range_is_welcome() -> None:
    assert len(dataset([[0], [1]], [0, 1]).rows) == 2


@pytest.mark.parametrize("targets", [np.zeros((2, 1), np.float32), np.array([0.5, 0.2])], ids=["column", "fractions"])
def test_targets_that_are_no_vector_of_the_right_type_are_refused(targets) -> None:
    labels = NAMES if targets.ndim == 1 else None
    with pytest.raises(DataError):
        Dataset(Split(np.zeros((2, 1), np.float32), targets), labels, "data.mine")


@pytest.mark.parametrize(
    "features",
    [np.zeros((2, 0), np.float32), np.zeros((2, 1)), np.zeros(2, np.float32)],
    ids=["none", "float64", "no feature axis"],
)
def test_features_that_no_model_can_take_are_refused(features) -> None:
    with pytest.raises(DataError):
        Dataset(Split(features, np.zeros(2, np.float32)), None, "data.mine")


# The number of a row


def test_rows_have_numbers_evenly_spread_that_no_other_row_changes() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 3)), rng.integers(0, 2, 4000)
    numbers = dataset(x, y).numbers(7)
    assert kstest(numbers, "uniform").pvalue > 0.01
    order = rng.permutation(4000)[:100]
    np.testing.assert_array_equal(dataset(x[order], y[order]).numbers(7), numbers[order])


def test_the_number_of_a_row_is_keyed_blake2b_of_its_bytes() -> None:
    keyed = hashlib.blake2b(key=hashlib.sha256(b"3/holdout").digest(), digest_size=8)
    keyed.update(np.array([[1.5]], np.float32).tobytes() + b"yes")
    (number, _) = dataset([[1.5], [0]], [1, 0]).numbers(3)
    assert number == pytest.approx(int.from_bytes(keyed.digest(), "little") / 2**64, abs=1e-15)
    assert 0 <= number < 1


@pytest.mark.parametrize(
    ("rows", "labels", "same"),
    [
        (([[-0.0], [1]], [1, 0]), NAMES, True),
        (([[0], [1]], [2, 1]), ("maybe", *NAMES), True),  # the same class by another number
        (([[0], [1]], [0, 1]), NAMES, False),
        (([[2], [1]], [1, 0]), NAMES, False),
    ],
    ids=["minus nothing", "a class more", "another class", "other features"],
)
def test_a_row_keeps_its_number_while_it_says_the_same(rows, labels, same) -> None:
    before, after = dataset([[0], [1]], [1, 0]).numbers(0)[0], dataset(*rows, labels).numbers(0)[0]
    assert bool(before == after) is same


def test_another_seed_gives_other_numbers() -> None:
    rows = dataset([[0], [1]], [0.0, 1.5], None)
    assert not set(rows.numbers(0)) & set(rows.numbers(1))


def test_names_of_features_are_as_many() -> None:
    rows = Split(np.zeros((3, 2), np.float32), np.zeros(3, np.float32))
    with pytest.raises(DataError, match=r"data\.mine: 1 names of features of shape \(2,\)"):
        Dataset(rows, None, "data.mine", features=("a",))
