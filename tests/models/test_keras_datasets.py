"""Keras' data sets by name, read from where Keras keeps them; nothing is downloaded here."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from federated.sources import Idx
from models.keras_datasets import LABELS, SEQUENCES, KerasDataset
from tests.federated.idx_files import packed_idx
from tests.shared_data import shared_data

NO_NETWORK = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https")}
"""Nobody listens there: what would be downloaded is refused at once."""

LOADING = """
import sys
import numpy as np
from federated.errors import DataError
from models.keras_datasets import KerasDataset
for name in sys.argv[2:]:
    try:
        dataset = KerasDataset(name=name).load()
    except DataError as error:
        print("told", error)
    else:
        np.savez(sys.argv[1], x=dataset.rows.x, y=dataset.rows.y, reserved=dataset.reserved)
        print("told", *dataset.labels, sep="|")
"""


def load_elsewhere(home: Path, *names: str) -> list[str]:
    """What a process says that loads sets with ``home`` as Keras' folder: Keras takes it when it is imported."""
    environment = {**os.environ, **NO_NETWORK, "KERAS_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", LOADING, str(home / "loaded.npz"), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return [line.removeprefix("told").lstrip(" |") for line in done.stdout.splitlines() if line.startswith("told")]


def keep(folder: Path, images: np.ndarray, labels: np.ndarray, part: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(packed_idx(values)))


def test_a_set_is_read_from_where_keras_keeps_it(tmp_path) -> None:
    """Fashion-MNIST: Keras checks no digest of its files, so that small ones can stand in for them."""
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([9, 0, 3, 3, 1], np.uint8)
    kept = tmp_path / "datasets" / "fashion-mnist"
    keep(kept, images[:3], labels[:3], "train"), keep(kept, images[3:], labels[3:], "t10k")
    (said,) = load_elsewhere(tmp_path, "fashion_mnist")
    assert said.split("|") == list(LABELS["fashion_mnist"])
    loaded = np.load(tmp_path / "loaded.npz")
    np.testing.assert_array_equal(loaded["x"], images[..., None])
    assert loaded["x"].dtype == np.float32
    assert loaded["y"].tolist() == labels.tolist()
    assert loaded["reserved"].tolist() == [False, False, False, True, True]


@pytest.mark.slow
def test_keras_and_we_read_the_same_fashion_mnist(tmp_path) -> None:
    kept = tmp_path / "datasets"
    kept.mkdir()
    (kept / "fashion-mnist").symlink_to(shared_data("fashion-mnist"))
    load_elsewhere(tmp_path, "fashion_mnist")
    loaded, ours = np.load(tmp_path / "loaded.npz"), Idx(path=shared_data("fashion-mnist")).load()
    np.testing.assert_array_equal(loaded["x"], ours.rows.x)
    np.testing.assert_array_equal(loaded["y"], ours.rows.y)
    np.testing.assert_array_equal(loaded["reserved"], ours.reserved)


def test_a_set_that_cannot_be_fetched_or_is_damaged_is_told_in_one_line(tmp_path) -> None:
    """What lies in MNIST's place has another digest than Keras knows, so that it asks the network for it, in vain."""
    kept = tmp_path / "datasets" / "fashion-mnist"
    for part in ("train", "t10k"):
        keep(kept, np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.uint8), part)
    packed = kept / "t10k-images-idx3-ubyte.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    np.savez(tmp_path / "datasets" / "mnist.npz", x_train=np.zeros((2, 28, 28)))
    absent, damaged = load_elsewhere(tmp_path, "mnist", "fashion_mnist")
    assert absent.startswith("data.keras.name: Keras cannot load mnist (Exception: URL fetch failure on https://")
    assert absent.endswith("try again; elsewhere bring that folder")
    assert damaged.startswith("data.keras.name: Keras cannot load fashion_mnist (EOFError: Compressed file ended")
    assert damaged.endswith("try again; elsewhere bring that folder")


# What Keras' loaders give, in their own shapes and types: a stand-in for the download, and for nothing else


def given(monkeypatch, name, train, test) -> None:
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda **asked: (train, test))


def test_labels_in_a_column_become_one_dimension(monkeypatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    given(monkeypatch, "cifar10", (x[:2], np.array([[3], [9]], np.uint8)), (x[2:], np.array([[0]], np.uint8)))
    dataset = KerasDataset(name="cifar10").load()
    np.testing.assert_array_equal(dataset.rows.x, x)
    assert dataset.rows.y.tolist() == [3, 9, 0]
    assert dataset.labels[3] == "cat"
    assert dataset.reserved.tolist() == [False, False, True]


def test_prices_are_regressed(monkeypatch) -> None:
    x = np.arange(24.0).reshape(3, 8)
    given(monkeypatch, "california_housing", (x[:2], np.array([1e5, 2e5])), (x[2:], np.array([3e5])))
    dataset = KerasDataset(name="california_housing").load()
    assert (dataset.labels, dataset.rows.y.tolist()) == (None, [1e5, 2e5, 3e5])
    np.testing.assert_array_equal(dataset.rows.x, x)


def test_texts_are_cut_and_filled_as_keras_does(monkeypatch) -> None:
    texts = [[1, 5, 6], [1, 9, 8, 7, 6, 5], [1], []]
    train = (np.array(texts[:2], dtype=object), np.array([1, 0]))
    test = (np.array([*texts[2:]], dtype=object), np.array([0, 1]))
    given(monkeypatch, "imdb", train, test)
    dataset = KerasDataset(name="imdb", words=10, length=4).load()
    np.testing.assert_array_equal(dataset.rows.x, keras.utils.pad_sequences(texts, maxlen=4))
    assert dataset.labels == ("negative", "positive")


def test_every_set_of_keras_can_be_named() -> None:
    assert {name for name in vars(keras.datasets) if not name.startswith("_")} == set(LABELS)
    for name in LABELS:
        texts = {"words": 1000, "length": 50} if name in SEQUENCES else {}
        assert KerasDataset(name=name, **texts).name == name
    assert LABELS["reuters"] == tuple(str(number) for number in range(len(keras.datasets.reuters.get_label_names())))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "minst"}, "Input should be 'mnist', 'fashion_mnist'"),
        ({"name": "imdb"}, "imdb has texts: words and length are needed"),
        ({"name": "imdb", "words": 100}, "imdb has texts: words and length are needed"),
        ({"name": "mnist", "length": 5}, "words and length are for texts, which mnist has not"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields, told) -> None:
    with pytest.raises(ValidationError, match=told):
        KerasDataset(**fields)
