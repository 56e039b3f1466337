"""A division of the data: no row has two uses, and no number comes from a row held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from federated.data import Dataset, Split
from federated.division import Holdout, divide
from federated.errors import DataError
from federated.federation import federate
from federated.partitions import Dirichlet, Iid, Natural, Partition, Shares
from federated.scaling import AsIs, Standardize
from tests.fakes import small_dataset
from tests.federated.families import PARTITIONS, SCALINGS

DATASET = small_dataset()

each_partition = pytest.mark.parametrize("partition", PARTITIONS, ids=repr)


def parts_of(division) -> list[np.ndarray]:
    clients = [rows for client in division.clients.values() for rows in client]
    return [division.test, division.validation, division.root, *clients]


@each_partition
@pytest.mark.parametrize("seed", [0, 1])
def test_every_row_has_exactly_one_use(partition, seed) -> None:
    parts = parts_of(divide(DATASET, partition, Holdout(), seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(DATASET.rows)))
    assert [len(part) for part in parts if len(part) == 0] == [0]  # root rows, which nobody asked for


@pytest.mark.parametrize("seed", range(5))
def test_the_server_holds_out_its_shares_and_each_client_its_own(seed) -> None:
    rows = 20_000
    holdout = Holdout(test=0.25, validation=0.15, client_test=0.25)
    division = divide(small_dataset(rows), Iid(clients=4), holdout, seed)
    shares = [len(division.test) / rows, len(division.validation) / rows]
    shares += [len(client.test) / len(np.concatenate(client)) for client in division.clients.values()]
    assert shares == pytest.approx([0.25, 0.15, *[0.25] * 4], abs=0.035)  # four deviations of a client's


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


def test_each_draw_of_a_division_follows_the_seed() -> None:
    log: list[float] = []
    divisions = [divide(DATASET, Fixed(log=log), Holdout(), seed) for seed in (0, 1)]
    assert len(set(log)) == 2
    assert len({tuple(division.clients["a"].test) for division in divisions}) == 2


def test_a_row_that_two_clients_have_is_tested_on_by_both_or_trained_on_by_both() -> None:
    first, second = divide(DATASET, Fixed(log=[]), Holdout(), 0).clients.values()
    np.testing.assert_array_equal(first.test, second.test)


def before_and_after(rows: int, seed: int) -> tuple[Dataset, Dataset]:
    """A table of ``rows`` rows, and the same table a night later: more rows, and two of them come first."""
    rng = np.random.default_rng(seed)
    later = Split(rng.normal(size=(rows + 37, 2)).astype(np.float32), rng.integers(0, 3, rows + 37).astype(np.int32))
    keys = np.array([f"site-{number % 3}" for number in range(rows + 37)])
    tables = [
        Dataset(later.take(places), tuple("abc"), "data.test", keys[places])
        for places in (np.arange(2, rows + 2), np.arange(rows + 37))
    ]
    return tables[0], tables[1]


def bytes_of(dataset: Dataset, rows: np.ndarray) -> set[bytes]:
    return {dataset.rows.x[row].tobytes() + dataset.rows.y[row].tobytes() for row in rows}


@pytest.mark.parametrize("partition", [Natural(), Iid(clients=3), Dirichlet(clients=3, alpha=1.0)], ids=repr)
@pytest.mark.parametrize("rows", [60, 600])
@pytest.mark.parametrize("seed", range(5))
def test_a_row_that_was_trained_on_is_not_tested_on_once_there_are_more(partition, rows, seed) -> None:
    tables = before_and_after(rows, seed)
    old, new = (divide(table, partition, Holdout(), seed) for table in tables)
    trained = bytes_of(tables[0], np.concatenate([client.train for client in old.clients.values()]))
    tests = [client.test for client in new.clients.values()]
    assert not trained & bytes_of(tables[1], np.concatenate([new.test, new.validation, *tests]))
    for before, after in ((old.test, new.test), (old.validation, new.validation)):
        assert bytes_of(tables[0], before) <= bytes_of(tables[1], after)


@pytest.mark.parametrize("seed", range(10))
def test_a_server_of_few_rows_tests_on_none_that_was_trained_on_either(seed) -> None:
    """Ten rows: chance often leaves the server none, and the row with the smallest number takes their place."""
    dataset = small_dataset(60)
    for count in range(10, 60):
        old, new = (
            divide(replace(dataset, rows=dataset.rows.take(np.arange(n)), keys=None), Iid(clients=1), Holdout(), seed)
            for n in (count, count + 1)
        )
        trained = set(np.concatenate([client.train for client in old.clients.values()]))
        assert not trained & {*new.test, *new.validation}


def test_a_row_taken_out_changes_no_other_rows_use() -> None:
    whole, kept = divide(DATASET, Natural(), Holdout(), 0), np.arange(5, 120)
    fewer = replace(DATASET, rows=DATASET.rows.take(kept), keys=DATASET.keys[kept])
    less = divide(fewer, Natural(), Holdout(), 0)
    assert len(parts_of(less)) == len(parts_of(whole))
    for before, after in zip(parts_of(whole), parts_of(less), strict=True):
        np.testing.assert_array_equal(before[before >= 5], kept[after])


def test_equal_rows_have_one_use() -> None:
    twice = np.tile(np.arange(120), 2)
    dataset = replace(DATASET, rows=DATASET.rows.take(twice), keys=np.tile(["a", "b"], 120))
    parts = parts_of(divide(dataset, Natural(), Holdout(), 0))
    trained = {*twice[parts[2]], *twice[parts[4]]}
    assert not trained & {*twice[np.concatenate([parts[0], parts[1], parts[3], parts[5]])]}


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
    with pytest.raises(ValidationError, match=r"test \+ validation \+ root must be below 1, got 0\.7 \+ 0\.3 \+ 0\.0"):
        Holdout(test=0.7, validation=0.3)


@pytest.mark.parametrize("name", ["test", "client_test"])
@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_lies_between_nothing_and_everything(name, share) -> None:
    with pytest.raises(ValidationError, match="than"):
        Holdout(**{name: share})


def test_a_client_may_have_rows_of_one_class_alone() -> None:
    keys = np.array([f"only-{label}" for label in DATASET.rows.y])
    federation = federate(replace(DATASET, keys=keys), Natural(), Holdout(), Standardize(), 0)
    assert {name: set(client.train.y) for name, client in federation.clients.items()} == {
        f"only-{label}": {label} for label in range(3)
    }


def test_a_client_with_one_row_is_refused_by_name() -> None:
    dealt = sum(len(rows) for rows in divide(DATASET, Iid(clients=1), Holdout(), 0).clients["client-0"])
    expected = r"partition: client 'client-1' has 1 rows after those of the server's holdout and needs at least 2"
    with pytest.raises(DataError, match=expected):
        divide(DATASET, Shares(shares=(dealt - 1, 1)), Holdout(), 0)


def test_a_natural_client_whose_rows_all_went_to_the_server_is_refused_by_name() -> None:
    first = divide(DATASET, Natural(), Holdout(), 0).test[0]
    keys = np.where(np.arange(len(DATASET.rows)) == first, "lonely", DATASET.keys)
    with pytest.raises(
        DataError, match="client 'lonely' has 0 rows after those of the server's holdout and needs at least 2"
    ):
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


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows keep their use, whatever becomes of their values."""
    numbers = DATASET.numbers(0)
    monkeypatch.setattr(Dataset, "numbers", lambda dataset, seed: numbers)


def changed(rows: np.ndarray) -> Dataset:
    x = DATASET.rows.x.copy()
    x[rows] += 1e6
    return replace(DATASET, rows=Split(x, DATASET.rows.y))


@pytest.mark.usefixtures("numbered")
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


@pytest.mark.usefixtures("numbered")
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


# Rows that the data set aside

RESERVED = replace(DATASET, reserved=np.arange(120) % 10 == 4)
ASIDE = np.flatnonzero(RESERVED.reserved)
GIVEN = Holdout(test="given", validation=0, client_test="given")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("validation", [0, 0.2])
def test_rows_set_aside_are_the_servers_test_rows_and_all_others_are_dealt(validation, seed) -> None:
    division = divide(RESERVED, Iid(clients=4), Holdout(test="given", validation=validation), seed)
    np.testing.assert_array_equal(division.test, ASIDE)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts_of(division))), np.arange(120))
    assert len(division.validation) == pytest.approx(108 * validation, abs=15)


@pytest.mark.parametrize("test", ["given", 0.2])
def test_rows_set_aside_are_their_clients_test_rows(test) -> None:
    division = divide(RESERVED, Natural(), Holdout(test=test, client_test="given"), 0)
    for name, rows in division.clients.items():
        assert {*DATASET.keys[rows.train], *DATASET.keys[rows.test]} == {name}
    np.testing.assert_array_equal(np.sort(np.concatenate([rows.test for rows in division.clients.values()])), ASIDE)
    assert not {*division.train, *division.validation} & {*ASIDE, *division.test}


def test_where_both_tests_are_given_the_server_tests_on_all_clients_test_rows() -> None:
    division = divide(RESERVED, Natural(), GIVEN, 0)
    np.testing.assert_array_equal(division.test, ASIDE)
    assert len(division.validation) == 0
    np.testing.assert_array_equal(np.sort(np.concatenate([division.test, division.train])), np.arange(120))


def test_a_split_that_is_given_is_the_same_for_every_seed() -> None:
    first, other = (parts_of(divide(RESERVED, Natural(), GIVEN, seed)) for seed in (0, 1))
    for left, right in zip(first, other, strict=True):
        np.testing.assert_array_equal(left, right)


def test_shares_of_rows_that_are_not_set_aside_do_not_change_with_those_that_are() -> None:
    """The same rows alone are divided alike."""
    rest = np.flatnonzero(~RESERVED.reserved)
    alone = replace(DATASET, rows=DATASET.rows.take(rest), keys=DATASET.keys[rest])
    both = divide(RESERVED, Natural(), Holdout(test=0.2, client_test="given"), 0)
    np.testing.assert_array_equal(both.test, rest[divide(alone, Natural(), Holdout(), 0).test])
    np.testing.assert_array_equal(both.validation, rest[divide(alone, Natural(), Holdout(), 0).validation])


@each_partition
def test_without_validation_all_other_rows_are_dealt(partition) -> None:
    division = divide(DATASET, partition, Holdout(validation=0), 0)
    np.testing.assert_array_equal(division.test, divide(DATASET, partition, Holdout(), 0).test)
    assert len(division.validation) == 0
    np.testing.assert_array_equal(np.sort(np.concatenate(parts_of(division))), np.arange(120))


def test_a_federation_without_validation_rows_has_an_empty_split_of_the_right_shape() -> None:
    validation = federate(DATASET, Natural(), Holdout(validation=0), Standardize(), 0).validation
    assert (validation.x.shape, validation.y.shape) == ((0, 1), (0,))


@pytest.mark.parametrize(
    ("dataset", "partition", "holdout", "expected"),
    [
        (RESERVED, Natural(), Holdout(), r"^holdout: data\.small sets 12 rows aside .* use test: given, client_test"),
        (DATASET, Natural(), GIVEN, r"^holdout\.test: data\.small sets no rows aside for testing; give a share"),
        (DATASET, Natural(), Holdout(client_test="given"), r"^holdout\.client_test: data\.small sets no rows aside"),
        (RESERVED, Iid(clients=3), GIVEN, r"^holdout\.client_test: .* the partition makes others; use partition: "),
        (replace(RESERVED, keys=None), Iid(clients=3), GIVEN, r"^holdout\.client_test: .* does not say whose rows"),
        (replace(DATASET, reserved=np.ones(120, np.bool_)), Natural(), GIVEN, r"all 120 rows are set aside"),
        (
            replace(RESERVED, keys=np.where(np.arange(120) == 4, "lonely", DATASET.keys)),
            Natural(),
            GIVEN,
            r"client 'lonely' has no rows to train on; leave it out or give a share",
        ),
        (
            replace(RESERVED, keys=np.where(np.arange(120) == 5, "eager", DATASET.keys)),
            Natural(),
            GIVEN,
            r"client 'eager' has no rows set aside to test on; leave it out or give a share",
        ),
    ],
)
def test_a_given_split_that_does_not_fit_is_told(dataset, partition, holdout, expected) -> None:
    with pytest.raises(DataError, match=expected):
        divide(dataset, partition, holdout, 0)


def test_marks_of_which_none_is_set_are_as_good_as_none() -> None:
    unmarked = divide(replace(DATASET, reserved=np.zeros(120, np.bool_)), Natural(), Holdout(), 0)
    for left, right in zip(parts_of(unmarked), parts_of(divide(DATASET, Natural(), Holdout(), 0)), strict=True):
        np.testing.assert_array_equal(left, right)


# Scaling by a client's own numbers

OWN = Standardize(per="client", ddof=1)


@pytest.mark.parametrize("holdout", [Holdout(), GIVEN], ids=["shares", "given"])
def test_every_row_is_scaled_by_the_training_rows_of_its_client(holdout) -> None:
    dataset = RESERVED if holdout is GIVEN else DATASET
    division, federation = divide(dataset, Natural(), holdout, 0), federate(dataset, Natural(), holdout, OWN, 0)
    x, keys = DATASET.rows.x.astype(float), DATASET.keys
    scaled = np.empty_like(x)
    for name, rows in division.clients.items():
        own = x[rows.train]
        scaled[keys == name] = (x[keys == name] - own.mean(axis=0)) / own.std(axis=0, ddof=1)
        np.testing.assert_allclose(federation.clients[name].train.x, scaled[rows.train], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(federation.clients[name].test.x, scaled[rows.test], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(federation.test.x, scaled[division.test], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(federation.validation.x, scaled[division.validation], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", [None, DATASET.keys, np.array(["client-0", "client-1"] * 60)], ids=repr)
def test_the_servers_rows_are_scaled_by_all_where_the_partition_makes_its_own_clients(keys) -> None:
    """A client that is called like a key need not have its rows."""
    dataset, partition = replace(DATASET, keys=keys), Iid(clients=2)
    own = federate(dataset, partition, Holdout(), OWN, 0)
    common = federate(dataset, partition, Holdout(), Standardize(ddof=1), 0)
    np.testing.assert_array_equal(own.test.x, common.test.x)
    np.testing.assert_array_equal(own.validation.x, common.validation.x)


def test_a_served_model_repeats_what_clients_share_and_nothing_of_their_own() -> None:
    own = federate(DATASET, Natural(), Holdout(), OWN, 0)
    np.testing.assert_array_equal(own.scaling.mean, 0)
    np.testing.assert_array_equal(own.scaling.std, 1)
    assert own.own.keys() == own.clients.keys()
    common = federate(DATASET, Natural(), Holdout(), Standardize(ddof=1), 0)
    assert (common.scaling.std > 1, common.own) == (True, {})


@pytest.mark.parametrize("scaling", SCALINGS, ids=repr)
def test_a_clients_rows_can_be_had_as_they_came(scaling) -> None:
    scaled, raw = (federate(DATASET, Natural(), Holdout(), how, 0) for how in (scaling, AsIs()))
    for name, client in scaled.clients.items():
        np.testing.assert_allclose(
            scaled.as_came(name, client.train).x, raw.clients[name].train.x, rtol=1e-5, atol=1e-4
        )


@pytest.mark.usefixtures("numbered")
def test_rows_held_out_do_not_move_a_clients_own_numbers() -> None:
    division = divide(DATASET, Natural(), Holdout(), 0)
    tests = [client.test for client in division.clients.values()]
    held_out = np.concatenate([division.test, division.validation, *tests])
    before, after = (federate(dataset, Natural(), Holdout(), OWN, 0).own for dataset in (DATASET, changed(held_out)))
    for name, affine in before.items():
        np.testing.assert_array_equal(affine.mean, after[name].mean)
        np.testing.assert_array_equal(affine.std, after[name].std)


# What is known of clients


def test_clients_carry_the_cards_that_the_data_have_of_them_and_what_is_added() -> None:
    carded = replace(DATASET, cards={"site-0": {"beds": 80.0, "region": "north"}, "elsewhere": {"beds": 1.0}})
    federation = federate(carded, Natural(), Holdout(), AsIs(), 0)
    assert federation.clients["site-0"].card == {"beds": 80.0, "region": "north"}
    assert federation.clients["site-1"].card == {}
    told = federation.with_cards({"site-0": {"beds": 90.0}, "site-1": {"region": "south"}})
    assert told.clients["site-0"].card == {"beds": 90.0, "region": "north"}
    assert told.clients["site-1"].card == {"region": "south"}


def test_cards_of_the_datas_clients_are_not_those_of_a_partitions() -> None:
    carded = replace(DATASET, cards={"client-0": {"beds": 80.0}})
    assert federate(carded, Iid(clients=2), Holdout(), AsIs(), 0).clients["client-0"].card == {}


def test_root_rows_are_the_servers_and_change_nobody_elses_test() -> None:
    plain, rooted = (divide(DATASET, Iid(clients=4), Holdout(root=share), 0) for share in (0.0, 0.1))
    np.testing.assert_array_equal(plain.test, rooted.test)
    np.testing.assert_array_equal(plain.validation, rooted.validation)
    assert len(plain.root) == 0
    assert 6 <= len(rooted.root) <= 20
    parts = parts_of(rooted)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(DATASET.rows)))


def test_the_federation_has_root_rows_where_the_holdout_asks_for_them() -> None:
    with_root = federate(DATASET, Iid(clients=4), Holdout(root=0.1), Standardize(), 0)
    assert with_root.root is not None
    assert federate(DATASET, Iid(clients=4), Holdout(), Standardize(), 0).root is None
