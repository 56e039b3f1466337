"""IDX files, MNIST's format: against a reading by hand, and what is told of damaged ones."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from pydantic import ValidationError

from federated.errors import DataError, PlanError
from federated.sources import Idx
from tests.federated.idx_files import CODES, packed_idx
from tests.shared_data import shared_data

IMAGES = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 3, 2)
LABELS = np.array([1, 0, 2, 1, 0], np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A small MNIST: three rows to train on and two to test on, the images of the first packed by gzip."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(packed_idx(IMAGES[:3])))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(packed_idx(LABELS[:3]))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(packed_idx(IMAGES[3:]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(packed_idx(LABELS[3:]))
    return tmp_path


def test_images_get_a_channel_and_keep_their_values(folder) -> None:
    dataset = Idx(path=folder).load()
    np.testing.assert_array_equal(dataset.rows.x, IMAGES[..., None])
    np.testing.assert_array_equal(dataset.rows.y, LABELS)
    assert dataset.labels == ("0", "1", "2")
    assert dataset.keys is None


def test_rows_of_the_test_files_are_reserved(folder) -> None:
    assert Idx(path=folder).load().reserved.tolist() == [False, False, False, True, True]


def test_without_test_files_nothing_is_reserved(folder) -> None:
    dataset = Idx(path=folder, test_images=None, test_labels=None).load()
    assert (len(dataset.rows), dataset.reserved) == (3, None)


def test_the_environment_may_say_where_the_folder_is(folder, monkeypatch) -> None:
    monkeypatch.setenv("HERE", str(folder.parent))
    assert len(Idx(path=f"${{HERE}}/{folder.name}").load().rows) == 5
    monkeypatch.delenv("HERE")
    with pytest.raises(PlanError, match=r"^data\.idx\.path: the environment has no HERE"):
        Idx(path="${HERE}").load()


def test_fashion_mnist_is_what_struct_and_gzip_read() -> None:
    folder = shared_data("fashion-mnist")
    dataset = Idx(path=folder).load()
    assert dataset.rows.x.shape == (70_000, 28, 28, 1)
    for name, rows in (("train", slice(0, 60_000)), ("t10k", slice(60_000, None))):
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz") as file:
            magic, count, height, width = struct.unpack(">4I", file.read(16))
            first = struct.unpack(f">{height * width}B", file.read(height * width))
            total = sum(first) + sum(
                map(int, np.frombuffer(file.read(), np.uint8).astype(np.int64).reshape(-1, 784).sum(1))
            )
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz") as file:
            labels = list(file.read()[8:])
        assert (magic, count, height, width) == (0x803, len(labels), 28, 28)
        assert dataset.rows.x[rows][0].ravel().tolist() == list(first)
        assert int(dataset.rows.x[rows].sum(dtype=np.float64)) == total
        assert dataset.rows.y[rows].tolist() == labels
        assert set(dataset.reserved[rows].tolist()) == {name == "t10k"}
    scaled = dataset.rows.x[:60_000] / 255
    assert scaled.mean(dtype=np.float64) == pytest.approx(0.2860, abs=5e-5)
    assert scaled.std(dtype=np.float64) == pytest.approx(0.3530, abs=5e-5)


@pytest.mark.parametrize("kind", CODES)
def test_every_type_of_number_is_read(kind, folder) -> None:
    values = np.array([[1, 2], [100, -3 if kind[0] != "u" else 3]], kind)
    (folder / "x").write_bytes(packed_idx(values))
    (folder / "y").write_bytes(packed_idx(np.array([0, 1], "i4")))
    dataset = Idx(path=folder, images="x", labels="y", test_images=None, test_labels=None).load()
    np.testing.assert_array_equal(dataset.rows.x, values.astype(np.float32))


def test_labels_that_do_not_begin_at_nothing_keep_their_names(folder) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(packed_idx(np.array([1, 26, 9], np.uint8)))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(packed_idx(np.array([9, 26], np.uint8)))
    dataset = Idx(path=folder).load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (("1", "9", "26"), [0, 2, 1, 1, 2])


def test_classes_may_be_named(folder) -> None:
    dataset = Idx(path=folder, names=("shirt", "coat", "bag", "boot")).load()
    assert dataset.labels == ("shirt", "coat", "bag", "boot")
    assert dataset.rows.y.tolist() == LABELS.tolist()


def test_labels_outside_the_range_of_the_names_are_refused(folder) -> None:
    with pytest.raises(DataError, match=r"data\.idx\.labels: .*: 2 classes are named, .* lie in 0 … 1, got 0 … 2"):
        Idx(path=folder, names=("no", "yes")).load()


@pytest.mark.parametrize(
    ("held", "told"),
    [
        (b"", r"expected an IDX file, .*train-labels-idx1-ubyte begins with nothing"),
        (b"PK\x03\x04....", r"expected an IDX file, .* begins with 50 4b 03 04"),
        (b"\0\0\x07\x01\0\0\0\x03abc", r"expected an IDX file, .* begins with 00 00 07 01"),
        (b"\0\0\x08\x00", r"expected an IDX file"),
        (
            b"\0\0\x08\x46" + 70 * b"\0\0\0\x01" + b"a",
            r"expected an IDX file, .* dimensions, at most 32; .* 00 00 08 46",
        ),
        (b"\0\0\x08\x01\0\0", r"is truncated: expected a header of 8 bytes, it has 6"),
        (b"\0\0\x08\x01\0\0\0\x03ab", r"is truncated: expected 11 bytes for shape \(3,\), it has 10"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", r"is too long: expected 11 bytes for shape \(3,\), it has 12"),
        (b"\0\0\x08\x01\xff\xff\xff\xffab", r"is truncated: expected 4294967303 bytes"),
    ],
)
def test_a_damaged_file_is_told_with_what_was_expected(folder, held, told) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(held)
    with pytest.raises(DataError, match=rf"data\.idx\.labels: .*{told}"):
        Idx(path=folder).load()


def test_a_truncated_gzip_file_is_told(folder) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match=r"data\.idx\.images: expected a whole gzip file, .*ubyte\.gz is truncated"):
        Idx(path=folder).load()


def test_as_many_labels_as_images(folder) -> None:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(packed_idx(LABELS))
    with pytest.raises(
        DataError, match=r"data\.idx\.test_labels: t10k-images.* has 2 images, but t10k-labels.* 5 labels"
    ):
        Idx(path=folder).load()


def test_test_images_of_another_size_are_refused(folder) -> None:
    (folder / "t10k-images-idx3-ubyte").write_bytes(packed_idx(IMAGES[:2, :2]))
    with pytest.raises(
        DataError, match=r"data\.idx\.test_images: expected examples of shape \(3, 2\), t10k-images.* has \(2, 2\)"
    ):
        Idx(path=folder).load()


def test_labels_are_no_images(folder) -> None:
    with pytest.raises(
        DataError,
        match=r"data\.idx\.images: expected images of 2 dimensions or more .*; train-labels-idx1-ubyte has 1 and",
    ):
        Idx(path=folder, images="train-labels-idx1-ubyte").load()


def test_a_misspelt_file_is_answered_with_the_closest(folder) -> None:
    with pytest.raises(
        DataError, match=r"data\.idx\.labels: there is no file .*; did you mean 'train-labels-idx1-ubyte'"
    ):
        Idx(path=folder, labels="train-label-idx1-ubyte").load()


def test_test_files_come_in_pairs() -> None:
    with pytest.raises(ValidationError, match="test_images and test_labels come together"):
        Idx(path="mnist", test_labels=None)
