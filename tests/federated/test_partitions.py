"""Partitions: laws over the family, and an oracle for each member."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from federated.data import Dataset, Split
from federated.errors import DataError
from federated.partitions import Dirichlet, Features, Iid, Labels, Natural, PowerLaw, Shards, Shares
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
    dataset, spread = labelled(rows_a_class=500, classes=2), 0
    for rows in deal(partition, dataset, np.arange(1000)).values():
        for of_a_class in (rows[rows < 500], rows[rows >= 500]):
            if len(of_a_class) > 1:
                assert np.ptp(of_a_class) >= 1.2 * len(of_a_class)
                spread += 1
    assert spread >= len(deal(partition))


@each_partition
def test_rows_that_come_in_another_order_are_all_dealt_out_too(partition) -> None:
    shuffled = np.random.default_rng(1).permutation(ROWS)
    parts = deal(partition, rows=shuffled)
    assert list(parts) == list(deal(partition))
    np.testing.assert_array_equal(np.sort(np.concatenate(list(parts.values()))), ROWS)


@each_partition
def test_the_rows_of_a_client_come_sorted_and_none_is_without(partition) -> None:
    for rows in deal(partition, rows=ROWS[::-1]).values():
        assert len(rows) >= 1
        np.testing.assert_array_equal(rows, np.sort(rows))


@each_random_partition
def test_a_client_has_its_fewest_rows_or_is_named_with_what_to_change(partition) -> None:
    smallest = min(map(len, deal(partition).values()))
    just = partition.model_copy(update={"min_rows": smallest})
    assert min(map(len, deal(just).values())) >= smallest
    expected = (
        rf"^partition\.{partition.kind}\.min_rows: client 'client-\d+' has \d+ of 108 rows and needs at least 109; "
    )
    with pytest.raises(DataError, match=expected + ".*(lower|raise)") as refusal:
        deal(partition.model_copy(update={"min_rows": 109}))
    assert "\n" not in str(refusal.value)


@each_random_partition
def test_a_client_without_a_row_is_refused(partition) -> None:
    wide = partition.model_copy(update={"clients": 109, "shares": (1.0,) * 109})
    with pytest.raises(DataError, match=rf"^partition\.{partition.kind}\..*client 'client-\d\d\d' (has|gets)"):
        deal(wide)


@pytest.mark.parametrize(
    ("partition", "expected"),
    [
        (Natural(), "3a706e389d4a4783"),
        (Shares(shares=(3, 1, 2)), "e3fb2c9e4ccedfbb"),
        (Iid(clients=11), "2e23182b5cf5065d"),
        (Dirichlet(clients=4, alpha=2.0, min_rows=1), "5db60fc2f945e20b"),
        (Dirichlet(clients=4, alpha=0.5, min_rows=15), "1ae42c6a64c3cf9f"),
    ],
    ids=repr,
)
def test_a_partition_deals_what_it_has_always_dealt(partition, expected) -> None:
    """The digest of each row's client, as of the first release: a training can be computed again."""
    owners = np.full(len(DATASET.rows), -1)
    for number, rows in enumerate(deal(partition).values()):
        owners[rows] = number
    assert hashlib.sha256(owners.astype("<i8").tobytes()).hexdigest()[:16] == expected


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


def test_dirichlet_refuses_a_minimum_that_it_cannot_reach_and_tells_of_its_best_draw() -> None:
    partition, rng = Dirichlet(clients=4, alpha=1.0, min_rows=1), np.random.default_rng(0)
    draws = [partition.split(DATASET, ROWS, rng) for _ in range(100)]
    best = max(min(map(len, parts.values())) for parts in draws)
    expected = (
        rf"partition\.dirichlet\.min_rows: client 'client-\d' has {best} of 108 rows and needs at least 40; "
        "no draw of 100 was better: raise alpha, or lower min_rows or clients"
    )
    with pytest.raises(DataError, match=expected):
        deal(partition.model_copy(update={"min_rows": 40}))


REGRESSION = Dataset(Split(DATASET.rows.x, DATASET.rows.y.astype(np.float32)), None, "data.line")


@pytest.mark.parametrize("partition", [Dirichlet(clients=2, alpha=1.0), Labels(clients=2, labels_each=1)], ids=repr)
def test_a_partition_over_classes_needs_some(partition) -> None:
    with pytest.raises(DataError, match=rf"partition\.{partition.kind}: data\.line has no classes; use iid"):
        deal(partition, REGRESSION)


def test_a_power_laws_sizes_are_a_line_of_its_slope_on_logarithmic_axes() -> None:
    dataset = labelled(rows_a_class=20_000)
    sizes = [len(rows) for rows in deal(PowerLaw(clients=50, exponent=1.3), dataset, np.arange(200_000)).values()]
    fitted = stats.linregress(np.log(np.arange(1, 51)), np.log(sorted(sizes, reverse=True)))
    assert (fitted.slope, fitted.rvalue) == pytest.approx((-1.3, -1), abs=0.005)
    assert sizes != sorted(sizes, reverse=True)


def test_a_power_law_with_exponent_0_deals_equal_parts() -> None:
    assert {len(rows) for rows in deal(PowerLaw(clients=5, exponent=0)).values()} <= {21, 22}


def test_the_largest_of_a_power_law_is_another_client_with_another_seed() -> None:
    partition, largest = PowerLaw(clients=6), set()
    for seed in range(60):
        parts = deal(partition, seed=seed)
        largest.add(max(parts, key=lambda name: len(parts[name])))
    assert len(largest) == 6


def test_a_power_law_too_steep_for_its_rows_names_the_client_that_gets_none() -> None:
    with pytest.raises(DataError, match="has 0 of 108 rows and needs at least 1; lower exponent, clients or min_rows"):
        deal(PowerLaw(clients=20, exponent=4))


def test_shards_are_those_of_the_fedavg_paper() -> None:
    """60,000 images of ten digits over 100 clients of 2 shards of 300 each (McMahan et al. 2017, section 3)."""
    dataset = labelled(rows_a_class=6000)
    shuffle = np.random.default_rng(3).permutation(60_000)
    dataset = replace(dataset, rows=dataset.rows.take(shuffle))
    parts = deal(Shards(clients=100, shards_each=2), dataset, np.arange(60_000))
    counts = class_shares(parts, dataset) * 600
    assert {len(rows) for rows in parts.values()} == {600}
    assert {*np.unique(counts)} == {0, 300, 600}


def test_shards_are_dealt_at_random() -> None:
    """Of the 199 other shards, 19 have the digit of a client's first."""
    dataset, alike = labelled(rows_a_class=20), []
    for seed in range(50):
        counts = class_shares(deal(Shards(clients=100, shards_each=2), dataset, np.arange(200), seed), dataset)
        alike.append(np.mean(counts.max(axis=1) == 1))
    assert np.mean(alike) == pytest.approx(19 / 199, abs=0.016)  # four deviations


@pytest.mark.parametrize(("rows", "each"), [(108, 2), (107, 3), (95, 1)])
def test_shards_are_equal_to_within_a_row(rows, each) -> None:
    sizes = [len(part) for part in deal(Shards(clients=6, shards_each=each), rows=ROWS[:rows]).values()]
    assert min(sizes) >= each * (rows // (6 * each))
    assert max(sizes) <= each * (rows // (6 * each) + 1)


def test_shards_of_targets_without_classes_are_ranges_of_the_target() -> None:
    y = np.random.default_rng(0).normal(size=120).astype(np.float32)
    parts = deal(Shards(clients=12, shards_each=1), replace(REGRESSION, rows=Split(DATASET.rows.x, y)), np.arange(120))
    ranges = sorted((y[rows].min(), y[rows].max()) for rows in parts.values())
    assert all(below[1] < above[0] for below, above in pairwise(ranges))
    assert [*parts] != sorted(parts, key=lambda name: y[parts[name]].min())


@pytest.mark.parametrize(("clients", "each"), [(10, 1), (5, 2), (7, 3), (100, 2), (3, 10)])
def test_a_client_of_a_label_split_holds_so_many_classes_and_each_has_as_many_holders(clients, each) -> None:
    dataset = labelled(rows_a_class=200)
    held = class_shares(deal(Labels(clients=clients, labels_each=each), dataset, np.arange(2000)), dataset) > 0
    assert {*held.sum(axis=1)} == {each}
    assert set(held.sum(axis=0)) <= {clients * each // 10, -(-clients * each // 10)}


def test_the_holders_of_a_class_share_it_equally() -> None:
    dataset = labelled(rows_a_class=201)
    parts = deal(Labels(clients=14, labels_each=3), dataset, np.arange(2010))
    for label in range(10):
        counts = [int(np.sum(dataset.rows.y[rows] == label)) for rows in parts.values()]
        assert np.ptp([count for count in counts if count]) <= 1


def test_any_two_classes_may_meet_in_a_label_split() -> None:
    dataset, met = labelled(rows_a_class=4), set()
    for seed in range(60):
        for rows in deal(Labels(clients=5, labels_each=2), dataset, np.arange(40), seed).values():
            met.add(tuple(np.unique(dataset.rows.y[rows])))
    assert len(met) == 45


def test_a_class_of_which_the_server_holds_every_row_is_no_class_of_a_label_split() -> None:
    parts = deal(Labels(clients=4, labels_each=2), rows=np.flatnonzero(DATASET.rows.y != 1))
    assert all(set(DATASET.rows.y[rows]) == {0, 2} for rows in parts.values())


@pytest.mark.parametrize(
    ("clients", "each", "says"),
    [
        (4, 4, "a client cannot hold 4 of 3 classes; lower it"),
        (2, 1, "2 clients that hold 1 each leave out some of 3 classes; raise it or clients"),
        (60, 2, r"client 'client-\d\d' gets no row of class 'class-\d', which has 36 rows for 40 clients; lower"),
    ],
)
def test_a_label_split_that_cannot_be_is_refused(clients, each, says) -> None:
    with pytest.raises(DataError, match=rf"^partition\.labels\.labels_each: {says}"):
        deal(Labels(clients=clients, labels_each=each))


def cloud(rows: int = 400, seed: int = 0) -> Dataset:
    """Points that lie mostly along one line through five features of different units, the last of which is constant."""
    rng = np.random.default_rng(seed)
    along = rng.normal(size=(rows, 1)) * [3.0, 2.0, -2.0, 0.5, 0.0] + rng.normal(size=(rows, 5)) * [1, 1, 1, 1, 0]
    x = (along * [1.0, 1e4, 1e-3, 10.0, 1.0] + [0.0, 5e4, 1.0, 0.0, 7.0]).astype(np.float32)
    return Dataset(Split(x, np.zeros(rows, np.float32)), None, "data.cloud")


def along_the_line(dataset: Dataset) -> np.ndarray:
    """Each row's place along the eigenvector of the correlation matrix with the largest eigenvalue, shape (rows,)."""
    x = dataset.rows.x[:, :4].astype(np.float64)
    direction = np.linalg.eigh(np.corrcoef(x.T))[1][:, -1]
    return stats.zscore(x) @ (direction * np.sign(direction[0]))


def test_a_feature_split_cuts_along_the_first_principal_direction() -> None:
    dataset, rows = cloud(), np.arange(400)
    parts = deal(Features(clients=8), dataset, rows)
    expected = np.array_split(np.argsort(along_the_line(dataset)), 8)
    for found, wanted in zip(parts.values(), expected, strict=True):
        np.testing.assert_array_equal(found, np.sort(wanted))


def test_a_direction_found_from_some_of_the_rows_is_near_that_of_all() -> None:
    dataset = cloud(rows=20_000)
    places = along_the_line(dataset)
    parts = deal(Features(clients=4), dataset, np.arange(20_000))
    means = [places[rows].mean() for rows in parts.values()]
    expected = [places[rows].mean() for rows in np.array_split(np.argsort(places), 4)]
    assert means == pytest.approx(expected, rel=0.01, abs=0.01)


def test_a_feature_split_does_not_see_units() -> None:
    first = cloud()
    scaled = replace(first, rows=Split(first.rows.x * np.float32([8, 0.25, 1024, 2, 1]), first.rows.y))
    parts = [deal(Features(clients=4), dataset, np.arange(400)) for dataset in (first, scaled)]
    for name in parts[0]:
        np.testing.assert_array_equal(parts[0][name], parts[1][name])


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_share_alpha_of_a_feature_split_is_dealt_at_random(alpha) -> None:
    """Of the rows that sort before the first cut the first client has 1 - alpha, and of those at random its part."""
    dataset = cloud(rows=8000)
    first = deal(Features(clients=4, alpha=alpha), dataset, np.arange(8000))["client-0"]
    lowest = np.argsort(along_the_line(dataset))[:2000]
    assert np.isin(first, lowest).mean() == pytest.approx(1 - alpha + alpha / 4, abs=0.03)
    assert len(first) == 2000


@pytest.mark.parametrize(("rows", "alpha"), [(101, 0.5), (103, 0.1), (107, 0.9), (108, 0.33)])
def test_the_parts_of_a_feature_split_are_equal_to_within_a_row(rows, alpha) -> None:
    sizes = [len(part) for part in deal(Features(clients=7, alpha=alpha), rows=ROWS[:rows]).values()]
    assert max(sizes) - min(sizes) <= 1


def test_images_are_split_by_their_pixels_and_those_that_only_rounding_tells_apart_at_random() -> None:
    x = np.zeros((200, 4, 4, 1), np.float32)
    x[100:, 1:3] = 1
    x[150:, 1:3] = np.nextafter(np.float32(1), np.float32(0))
    dataset = Dataset(Split(x, np.zeros(200, np.float32)), None, "data.images")
    dark, light = deal(Features(clients=2), dataset, np.arange(200)).values()
    assert (dark.max(), light.min()) == (99, 100)
    for quarter in list(deal(Features(clients=4), dataset, np.arange(200)).values())[2:]:
        assert 10 < np.sum(quarter < 150) < 40
