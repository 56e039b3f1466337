"""Partitions: laws over the family, and an oracle for each member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.partitions import Dirichlet, Iid, Natural, Shares
from tests.fakes import small_dataset
from tests.federated.families import PARTITIONS

DATASET = small_dataset()
ROWS = np.flatnonzero(np.arange(len(DATASET.rows)) % 10 != 0)

each_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=repr)
each_random_partition = pytest.mark.parametrize(
    "partition", [row for row in PARTITIONS if not isinstance(row, Natural)], ids=repr
)


def deal(partition, dataset=DATASET, rows=ROWS, seed: int = 0):
    return partition.split(dataset, rows, np.random.default_rng(seed))


def labelled(rows_a_class: int, classes: int = 10) -> Dataset:
    y = np.repeat(np.arange(classes, dtype=np.int32), rows_a_class)
    return Dataset(Split(np.zeros((len(y), 1), np.float32), y), tuple(map(str, range(classes))), "data.test")


def class_shares(parts, dataset) -> np.ndarray:
    """Shape (clients, classes): how each client's rows are spread over classes; rows sum to 1."""
    counts = [np.bincount(dataset.rows.y[rows], minlength=10) for rows in parts.values()]
    return np.array([count / count.sum() for count in counts])


@each_partition
def test_every_row_goes_to_exactly_one_client(partition) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(list(deal(partition).values()))), ROWS)


@each_partition
def test_the_same_seed_deals_the_same_rows(partition) -> None:
    first, again = deal(partition, seed=5), deal(partition, seed=5)
    assert list(first) == list(again)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


@each_random_partition
def test_another_seed_deals_other_rows(partition) -> None:
    first, other = deal(partition, seed=5), deal(partition, seed=6)
    assert any(set(first[name]) != set(other[name]) for name in first)


@each_random_partition
def test_rows_that_lie_together_in_the_file_do_not_stay_together(partition) -> None:
    dataset = labelled(rows_a_class=500, classes=2)
    for rows in deal(partition, dataset, np.arange(1000)).values():
        of_class_0 = rows[rows < 500]
        assert len(of_class_0) > 1
        assert np.ptp(of_class_0) >= 1.2 * len(of_class_0)


@each_partition
def test_the_names_of_clients_come_sorted(partition) -> None:
    names = list(deal(partition))
    assert names == sorted(set(names))
    assert all(type(name) is str for name in names)


@each_partition
def test_a_partition_knows_how_many_clients_it_makes_or_says_that_it_does_not(partition) -> None:
    assert partition.known_clients in (None, len(deal(partition)))


@each_random_partition
def test_a_partition_that_makes_up_clients_knows_how_many(partition) -> None:
    assert partition.known_clients is not None


def test_natural_clients_hold_the_rows_with_their_key() -> None:
    parts = deal(Natural())
    assert list(parts) == ["site-0", "site-1", "site-2", "site-3"]
    for name, rows in parts.items():
        assert set(DATASET.keys[rows]) == {name}


def test_natural_needs_keys() -> None:
    with pytest.raises(DataError, match=r"partition\.natural: data\.small does not say whose"):
        deal(Natural(), replace(DATASET, keys=None))


@pytest.mark.parametrize(
    ("shares", "rows", "sizes"),
    [
        ((1, 2, 3), 60, [10, 20, 30]),
        ((0.5, 0.25, 0.25), 80, [40, 20, 20]),
        ((7,), 9, [9]),
        ((2, 1), 10, [7, 3]),
    ],
)
def test_shares_are_scaled_to_sum_to_one(shares, rows, sizes) -> None:
    parts = deal(Shares(shares=shares), rows=ROWS[:rows])
    assert [len(part) for part in parts.values()] == sizes


def test_shares_are_within_a_row_of_their_due() -> None:
    shares = np.random.default_rng(0).uniform(0.1, 1, size=9)
    parts = deal(Shares(shares=tuple(shares)))
    due = shares / shares.sum() * len(ROWS)
    assert np.abs([len(part) for part in parts.values()] - due).max() <= 1


@pytest.mark.parametrize("shares", [(1, 0), (1, -2)])
def test_a_share_of_nothing_is_refused(shares) -> None:
    with pytest.raises(ValidationError, match=f"every share must be positive, got {min(shares)}"):
        Shares(shares=shares)


@pytest.mark.parametrize(("clients", "sizes"), [(3, {36}), (5, {21, 22})])
def test_iid_parts_are_equal_to_within_a_row(clients, sizes) -> None:
    assert {len(part) for part in deal(Iid(clients=clients)).values()} == sizes


def test_iid_clients_see_the_classes_alike() -> None:
    dataset = labelled(rows_a_class=200)
    parts = deal(Iid(clients=5), dataset, np.arange(2000))
    assert np.abs(class_shares(parts, dataset) - 0.1).max() < 0.05


def test_dirichlet_with_large_alpha_makes_all_clients_alike() -> None:
    dataset = labelled(rows_a_class=200)
    parts = deal(Dirichlet(clients=5, alpha=1e5), dataset, np.arange(2000))
    assert np.abs(class_shares(parts, dataset) - 0.1).max() < 0.01


def test_dirichlet_with_small_alpha_gives_a_client_few_classes() -> None:
    dataset = labelled(rows_a_class=200)
    parts = deal(Dirichlet(clients=5, alpha=0.02, min_rows=1), dataset, np.arange(2000))
    shares = class_shares(parts, dataset)
    holders = np.array([np.bincount(dataset.rows.y[p], minlength=10) for p in parts.values()]) > 20
    assert holders.sum(axis=0).max() <= 2
    assert (shares.max(axis=1) > 0.2).all()


def test_a_clients_share_of_a_class_follows_the_beta_distribution() -> None:
    dataset = labelled(rows_a_class=1000, classes=2)
    partition, rows = Dirichlet(clients=4, alpha=2.0, min_rows=1), np.arange(2000)
    held = [np.mean(np.isin(np.arange(1000), deal(partition, dataset, rows, seed)["client-1"])) for seed in range(150)]
    assert stats.kstest(held, stats.beta(2.0, 3 * 2.0).cdf).pvalue > 0.01


def test_dirichlet_draws_again_until_every_client_has_its_minimum() -> None:
    sizes = [min(map(len, deal(Dirichlet(clients=4, alpha=0.5, min_rows=least), seed=3).values())) for least in (1, 15)]
    assert sizes[0] < 15 <= sizes[1]


def test_dirichlet_refuses_a_minimum_that_it_cannot_reach() -> None:
    expected = (
        r"partition\.dirichlet: 100 draws gave none of 4 clients with 40 of 108 rows each; "
        "raise alpha, or lower min_rows or clients"
    )
    with pytest.raises(DataError, match=expected):
        deal(Dirichlet(clients=4, alpha=1.0, min_rows=40))


def test_dirichlet_needs_classes() -> None:
    regression = Dataset(Split(DATASET.rows.x, DATASET.rows.y.astype(np.float32)), None, "data.line")
    with pytest.raises(DataError, match=r"dirichlet: data\.line has no classes; use iid"):
        deal(Dirichlet(clients=2, alpha=1.0), regression)
