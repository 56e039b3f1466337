"""A division of the data: no row has two uses, and no number comes from a row held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.federation import Holdout, divide, federate
from federated.partitions import Dirichlet, Iid, Natural, Partition, Shares
from federated.scaling import AsIs, Standardize
from tests.fakes import small_dataset
from tests.federated.families import PARTITIONS, SCALINGS

DATASET = small_dataset()

each_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=repr)


def parts_of(division) -> list[np.ndarray]:
    clients = [rows for client in division.clients.values() for rows in client]
    return [division.test, division.validation, *clients]


@each_partition
@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_has_exactly_one_use(partition, seed) -> None:
    parts = parts_of(divide(DATASET, partition, Holdout(), seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(DATASET.rows)))
    assert min(map(len, parts)) >= 1


def test_the_server_holds_out_its_shares_and_each_client_its_own() -> None:
    holdout = Holdout(test=0.25, validation=0.15, client_test=0.25)
    division = divide(DATASET, Iid(clients=6), holdout, 0)
    assert (len(division.test), len(division.validation)) == (30, 18)
    assert [(len(c.train), len(c.test)) for c in division.clients.values()] == [(9, 3)] * 6


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_client_always_trains_on_a_row_and_tests_on_a_row(share) -> None:
    division = divide(DATASET, Iid(clients=6), Holdout(client_test=share), 0)
    assert min(len(part) for client in division.clients.values() for part in client) == 1


@each_partition
def test_the_same_seed_divides_alike_and_another_does_not(partition) -> None:
    first, again, other = (divide(DATASET, partition, Holdout(), seed) for seed in (3, 3, 4))
    assert list(first.clients) == list(again.clients)
    for left, right in zip(parts_of(first), parts_of(again), strict=True):
        np.testing.assert_array_equal(left, right)
    assert set(first.test) != set(other.test)


class Fixed(Partition):
    """Gives two clients the same 40 rows, and writes down what its randomness says."""

    log: Any

    @property
    def known_clients(self) -> int:
        return 2

    def split(self, dataset, rows, rng):
        self.log.append(rng.random())
        return {"a": np.arange(40), "b": np.arange(40)}


def test_each_draw_of_a_division_follows_the_seed_and_each_client_its_own() -> None:
    log: list[float] = []
    divisions = [divide(DATASET, Fixed(log=log), Holdout(), seed) for seed in (0, 1)]
    assert len(set(log)) == 2
    tests = {tuple(rows.test) for division in divisions for rows in division.clients.values()}
    assert len(tests) == 4


def test_the_server_holds_out_the_same_rows_whatever_the_partition() -> None:
    tests = [divide(DATASET, partition, Holdout(), 3).test for partition in PARTITIONS]
    for test in tests[1:]:
        np.testing.assert_array_equal(test, tests[0])


@pytest.mark.parametrize(("name", "other"), [("test", "validation"), ("validation", "test")])
def test_a_holdout_of_no_rows_is_refused(name, other) -> None:
    holdout = Holdout(**{name: 0.001, other: 0.3})
    expected = rf"holdout\.{name}: 0\.001 of 120 rows is none; raise it or bring more rows"
    with pytest.raises(DataError, match=expected):
        divide(DATASET, Iid(clients=2), holdout, 0)


def test_a_holdout_of_everything_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"test \+ validation must be below 1, got 0\.7 \+ 0\.3"):
        Holdout(test=0.7, validation=0.3)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_lies_between_nothing_and_everything(share) -> None:
    with pytest.raises(ValidationError, match="than"):
        Holdout(client_test=share)


def test_a_client_with_one_row_is_refused_by_name() -> None:
    expected = r"partition: client 'client-1' has 1 rows and needs at least 2"
    with pytest.raises(DataError, match=expected):
        divide(DATASET, Shares(shares=(83, 1)), Holdout(), 0)


def test_a_natural_client_whose_rows_all_went_to_the_server_is_refused_by_name() -> None:
    first = divide(DATASET, Natural(), Holdout(), 0).test[0]
    keys = np.where(np.arange(len(DATASET.rows)) == first, "lonely", DATASET.keys)
    with pytest.raises(DataError, match="client 'lonely' has 0 rows and needs at least 2"):
        divide(replace(DATASET, keys=keys), Natural(), Holdout(), 0)


@pytest.mark.parametrize(
    "partition",
    [
        Iid(clients=2),
        pytest.param(
            Dirichlet(clients=2, alpha=1.0),
        ),
    ],
    ids=repr,
)
def test_shares_that_leave_no_row_to_train_on_are_told(partition) -> None:
    with pytest.raises(DataError, match="test and validation take all 10 rows"):
        divide(small_dataset(10, keys=2), partition, Holdout(test=0.6, validation=0.39), 0)


def test_a_federation_hands_out_the_rows_of_its_division() -> None:
    division = divide(DATASET, Natural(), Holdout(), 2)
    federation = federate(DATASET, Natural(), Holdout(), AsIs(), 2)
    assert list(federation.clients) == list(division.clients)
    pairs = [(federation.test, division.test), (federation.validation, division.validation)]
    for name, client in federation.clients.items():
        assert client.name == name
        rows = division.clients[name]
        pairs += [(client.train, rows.train), (client.test, rows.test)]
    for split, rows in pairs:
        np.testing.assert_array_equal(split.x[:, 0], rows)
        np.testing.assert_array_equal(split.y, rows % 3)


def test_a_federation_knows_its_shapes() -> None:
    classes = federate(DATASET, Natural(), Holdout(), AsIs(), 0)
    assert (classes.inputs, classes.classes) == ((1,), 3)
    assert classes.labels == DATASET.labels
    images = Split(np.zeros((50, 4, 4, 1), np.float32), np.zeros(50, np.float32))
    numbers = federate(Dataset(images, None, "data.test"), Iid(clients=2), Holdout(), AsIs(), 0)
    assert (numbers.inputs, numbers.classes, numbers.labels) == ((4, 4, 1), None, None)


def changed(rows: np.ndarray) -> Dataset:
    x = DATASET.rows.x.copy()
    x[rows] += 1e6
    return replace(DATASET, rows=Split(x, DATASET.rows.y))


@pytest.mark.parametrize("scaling", SCALINGS, ids=repr)
def test_rows_held_out_do_not_move_the_scaling(scaling) -> None:
    division = divide(DATASET, Natural(), Holdout(), 0)
    tests = [client.test for client in division.clients.values()]
    held_out = np.concatenate([division.test, division.validation, *tests])
    before, after = (
        federate(dataset, Natural(), Holdout(), scaling, 0).scaling for dataset in (DATASET, changed(held_out))
    )
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


def test_every_clients_training_rows_move_the_scaling() -> None:
    before = federate(DATASET, Natural(), Holdout(), Standardize(), 0).scaling
    for client in divide(DATASET, Natural(), Holdout(), 0).clients.values():
        after = federate(changed(client.train[:1]), Natural(), Holdout(), Standardize(), 0).scaling
        assert after.mean > before.mean


def test_all_parts_are_scaled_by_the_same_numbers() -> None:
    raw, scaled = (federate(DATASET, Natural(), Holdout(), scaling, 0) for scaling in (AsIs(), Standardize()))
    pairs = [(raw.test, scaled.test), (raw.validation, scaled.validation)]
    for name in raw.clients:
        pairs.append((raw.clients[name].train, scaled.clients[name].train))
        pairs.append((raw.clients[name].test, scaled.clients[name].test))
    mean, std = scaled.scaling
    for before, after in pairs:
        np.testing.assert_allclose(after.x * std + mean, before.x, rtol=1e-5, atol=1e-4)
    train = np.concatenate([client.train.x for client in scaled.clients.values()])
    assert train.mean() == pytest.approx(0, abs=1e-6)
    assert train.std() == pytest.approx(1, rel=1e-6)
