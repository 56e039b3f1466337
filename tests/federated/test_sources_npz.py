"""NumPy's archives: what is read from them, and how each fault is told."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from federated.errors import DataError
from federated.sources import Npz

X = np.arange(12.0).reshape(4, 3)


@pytest.fixture
def npz(tmp_path):
    """Saves arrays and gives a source that reads them."""

    def build(arrays, **fields) -> Npz:
        np.savez(tmp_path / "a.npz", **arrays)
        return Npz(path=tmp_path / "a.npz", **fields)

    return build


def test_arrays_are_read_as_they_were_saved(npz) -> None:
    dataset = npz({"x": X, "y": [3, 5, 3, 4], "site": ["n", "s", "n", "s"]}, keys="site").load()
    np.testing.assert_array_equal(dataset.rows.x, X)
    assert (dataset.labels, dataset.rows.y.tolist()) == (("3", "4", "5"), [0, 2, 0, 1])
    assert dataset.keys.tolist() == ["n", "s", "n", "s"]
    assert dataset.reserved is None


def test_packed_archives_are_read(tmp_path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=X, y=[0, 1, 0, 1])
    np.testing.assert_array_equal(Npz(path=tmp_path / "a.npz").load().rows.x, X)


def test_a_regression_takes_the_target_as_it_is(npz) -> None:
    dataset = npz({"x": X, "y": [0.5, 1, 2, 3]}, task="regression").load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (None, [0.5, 1, 2, 3])


@pytest.mark.parametrize(
    ("y", "labels", "codes"),
    [
        (["no", "yes", "no", "no"], ("no", "yes"), [0, 1, 0, 0]),
        ([10.0, 9.0, 9.0, 10.0], ("9", "10"), [1, 0, 0, 1]),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1]),
        ([[1], [0], [0], [1]], ("0", "1"), [1, 0, 0, 1]),
    ],
    ids=["names", "whole floats", "truth values", "a column"],
)
def test_classes_are_the_distinct_values_sorted(npz, y, labels, codes) -> None:
    dataset = npz({"x": X, "y": y}).load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (labels, codes)


def test_rows_of_the_test_arrays_are_reserved(npz) -> None:
    arrays = {"x": X, "y": [0, 1, 1, 0], "k": [1, 2, 1, 2], "tx": X[:2] + 50, "ty": [2, 0], "tk": [2, 3]}
    dataset = npz(arrays, keys="k", x_test="tx", y_test="ty", keys_test="tk").load()
    np.testing.assert_array_equal(dataset.rows.x, np.concatenate([X, X[:2] + 50]))
    assert dataset.rows.y.tolist() == [0, 1, 1, 0, 2, 0]
    assert dataset.keys.tolist() == ["1", "2", "1", "2", "2", "3"]
    assert dataset.reserved.tolist() == [False] * 4 + [True] * 2


def test_rows_can_be_given_another_shape(npz) -> None:
    dataset = npz({"x": np.arange(24).reshape(4, 6), "y": [0, 1, 0, 1]}, shape=(2, 3, 1)).load()
    np.testing.assert_array_equal(dataset.rows.x[1, :, :, 0], [[6, 7, 8], [9, 10, 11]])


def test_a_shape_that_does_not_fit_is_refused(npz) -> None:
    with pytest.raises(
        DataError, match=r"data\.npz\.shape: a row of .*\.npz has shape \(3,\), which cannot become \(2, 2\)"
    ):
        npz({"x": X, "y": [0, 1, 0, 1]}, shape=(2, 2)).load()


@pytest.mark.parametrize("field", ["x", "y", "keys"])
def test_a_misspelt_array_is_answered_with_the_closest(npz, field) -> None:
    source = npz({"images": X, "labels": [0, 1, 0, 1]}, **{"x": "images", "y": "labels", field: "lables"})
    with pytest.raises(
        DataError, match=rf"data\.npz\.{field}: .*a\.npz has no array 'lables'; did you mean 'labels'\?"
    ):
        source.load()


def test_an_array_like_no_other_is_answered_with_all_there_are(npz) -> None:
    with pytest.raises(DataError, match=r"data\.npz\.y: .* has no array 'y'; it has x, zzz"):
        npz({"x": X, "zzz": [1]}).load()


def test_a_truncated_archive_is_named(npz) -> None:
    source = npz({"x": X, "y": [0, 1, 0, 1]})
    source.path.write_bytes(source.path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"data\.npz\.path: expected an NPZ file, .*a\.npz is none, or is truncated"):
        source.load()


def test_a_damaged_array_is_named(npz) -> None:
    source = npz({"x": X, "y": [0, 1, 0, 1]})
    held = bytearray(source.path.read_bytes())
    held[held.index(X.tobytes())] ^= 0xFF
    source.path.write_bytes(held)
    with pytest.raises(DataError, match=r"data\.npz\.x: expected a whole array .* cannot read 'x' of .*a\.npz"):
        source.load()


@pytest.mark.parametrize(
    ("where", "offset", "held", "told"),
    [
        (b"PK\x01\x02", 0, b"XX", r"path: expected an NPZ file, .*a\.npz is damaged \(Bad magic number for central"),
        (b"PK\x01\x02", 8, b"\x01", r"x: expected a whole array .* cannot read 'x' of .* encrypted"),
        (b"PK\x01\x02", 10, b"\x63", r"x: expected a whole array .* cannot read 'x' of .*compression"),
        (b"{'descr'", 0, b"((((((((", r"x: expected a whole array .* cannot read 'x' of .*a\.npz"),
        (b"(4, 3)", 0, b"(9**9)", r"x: expected a whole array .* cannot read 'x' of .*a\.npz"),
        (b"(4, 3), }", 0, b"(99999999", r"x: expected a whole array .* cannot read 'x' of .*a\.npz"),
    ],
    ids=["directory", "encrypted", "compression", "header", "shape", "unclosed"],
)
def test_an_archive_that_cannot_be_unpacked_is_named(npz, where, offset, held, told) -> None:
    source = npz({"x": X, "y": [0, 1, 0, 1]})
    spoilt = bytearray(source.path.read_bytes())
    begin = spoilt.index(where) + offset
    spoilt[begin : begin + len(held)] = held
    source.path.write_bytes(spoilt)
    with pytest.raises(DataError, match=rf"^data\.npz\.{told}"):
        source.load()


def test_one_array_alone_is_no_archive(tmp_path) -> None:
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataError, match=r"data\.npz\.path: expected an NPZ file, .*a\.npy is none"):
        Npz(path=tmp_path / "a.npy").load()


def test_pickled_objects_are_never_loaded(npz) -> None:
    with pytest.raises(DataError, match=r"data\.npz\.x: expected a whole array of numbers or text, cannot read 'x'"):
        npz({"x": np.array([{}, []], object), "y": [0, 1]}).load()


@pytest.mark.parametrize(
    ("arrays", "fields", "told"),
    [
        ({"x": ["a", "b"], "y": [0, 1]}, {}, r"x: expected numbers, .*\.npz has values of type <U1"),
        (
            {"x": X, "y": [0, 1]},
            {},
            r"y: expected a target a row, .*\.npz has features of shape \(4, 3\) and .* \(2,\)",
        ),
        ({"x": X, "y": np.eye(4)}, {}, r"y: expected a target a row"),
        (
            {"x": X, "y": [0, 1.5, 0, 1]},
            {},
            r"y: .*\.npz: expected whole numbers or names .* got 1\.5; .* task: regression",
        ),
        ({"x": X, "y": [0, np.inf, 0, 1]}, {}, r"y: .*\.npz: expected whole numbers or names as classes, got inf"),
        ({"x": X, "y": [0, 1, 2, 3]}, {"names": ("a", "b")}, r"y: .*\.npz: 2 classes are named, .* 0 … 1, got 0 … 3"),
        ({"x": X, "y": [0, -1, 0, 1]}, {"names": ("a", "b")}, r"y: .*\.npz: 2 classes are named, .* 0 … 1, got -1 … 1"),
        ({"x": X, "y": ["a"] * 4}, {"names": ("a", "b")}, r"y: .*\.npz: 2 classes are named"),
        ({"x": X, "y": ["a"] * 4}, {"task": "regression"}, r"y: expected numbers, .*\.npz has values of type <U1"),
        ({"x": X, "y": [0, 1, 0, 1], "k": [1]}, {"keys": "k"}, r"keys: expected a name .* each of 4 rows, .*\(1,\)"),
        ({"x": X, "y": [0, 1, 0, 1], "k": X[:, 0]}, {"keys": "k"}, r"keys: .* got float64 of shape \(4,\)"),
    ],
)
def test_an_array_of_the_wrong_kind_is_told_by_its_field(npz, arrays, fields, told) -> None:
    with pytest.raises(DataError, match=rf"data\.npz\.{told}"):
        npz(arrays, **fields).load()


def test_test_rows_of_another_shape_are_refused(npz) -> None:
    arrays = {"x": X, "y": [0, 1, 0, 1], "tx": X[:, :2], "ty": [0, 1, 0, 1]}
    with pytest.raises(DataError, match=r"data\.npz\.x_test: expected shape \(3,\) a row, .*\.npz has \(2,\)"):
        npz(arrays, x_test="tx", y_test="ty").load()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e39])
def test_numbers_that_no_model_can_take_are_located(npz, wrong) -> None:
    x = X.copy()
    x[2, 1] = wrong
    with pytest.raises(
        DataError, match=r"data\.npz .*a\.npz: NaN or infinity in 1 rows, the first is row 3 \(counted from 1\)"
    ):
        npz({"x": x, "y": [0, 1, 0, 1]}).load()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"x_test": "tx"}, "x_test and y_test come together"),
        ({"keys": "k", "x_test": "tx", "y_test": "ty"}, "keys_test is needed"),
        ({"keys_test": "k"}, "keys_test is needed"),
        ({"task": "regression", "names": ("a", "b")}, "names are of classes"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, told) -> None:
    with pytest.raises(ValidationError, match=told):
        Npz(path="a.npz", **fields)
