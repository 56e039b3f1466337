"""Values that rows lack: filled by what the training rows have, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from federated.data import Blanks, Dataset, Split
from federated.division import Holdout, divide
from federated.errors import DataError
from federated.federation import federate
from federated.filling import filled
from federated.partitions import Natural
from federated.scaling import AsIs

ROWS = 90
each_way = pytest.mark.parametrize("by", ["mean", "median"])


def gappy(by: str, seed: int = 0) -> Dataset:
    """Three clients, three features; the last has no gap."""
    rng = np.random.default_rng(seed)
    where = rng.random((ROWS, 3)) < [0.3, 0.1, 0.0]
    x = np.where(where, 0, rng.lognormal(size=(ROWS, 3))).astype(np.float32)
    rows = Split(x, rng.normal(size=ROWS).astype(np.float32))
    return Dataset(rows, None, "data.gappy", np.array(list("abc") * (ROWS // 3)), blanks=Blanks(where, by))


@each_way
@pytest.mark.parametrize("seed", range(3))
def test_gaps_are_filled_as_scikit_learns_imputer_does_from_the_training_rows(by, seed) -> None:
    dataset = gappy(by, seed)
    train = np.random.default_rng(seed).permutation(ROWS)[:50]
    with_gaps = np.where(dataset.blanks.where, np.nan, dataset.rows.x.astype(float))
    expected = SimpleImputer(strategy=by).fit(with_gaps[train]).transform(with_gaps)
    np.testing.assert_allclose(filled(dataset, train).x, expected, rtol=1e-6)


@each_way
def test_a_federation_has_no_gaps_and_the_values_that_were_there(by) -> None:
    dataset = gappy(by)
    federation = federate(dataset, Natural(), Holdout(), AsIs(), 0)
    division = divide(dataset, Natural(), Holdout(), 0)
    expected = filled(dataset, division.train)
    np.testing.assert_array_equal(federation.test.x, expected.x[division.test])
    for name, client in federation.clients.items():
        np.testing.assert_array_equal(client.test.x, expected.x[division.clients[name].test])
    known = ~dataset.blanks.where
    np.testing.assert_array_equal(expected.x[known], dataset.rows.x[known])
    assert (expected.x > 0).all()


@each_way
def test_what_a_row_is_for_does_not_depend_on_what_fills_it(by) -> None:
    """More rows move the filler, and no row from training to testing."""
    whole = gappy(by)
    some = np.arange(40)
    fewer = Dataset(
        whole.rows.take(some), None, "data.gappy", whole.keys[some], blanks=Blanks(whole.blanks.where[some], by)
    )
    before, after = (divide(dataset, Natural(), Holdout(), 0) for dataset in (fewer, whole))
    assert not set(before.train) & {*after.test, *after.validation}


def test_without_gaps_no_row_is_touched() -> None:
    dataset = gappy("mean")
    none = Dataset(dataset.rows, None, "data.gappy", blanks=Blanks(np.zeros((ROWS, 3), np.bool_), "mean"))
    assert filled(none, np.arange(3)) is none.rows


@each_way
def test_a_feature_that_no_training_row_has_is_told(by) -> None:
    dataset = gappy(by)
    train = np.flatnonzero(dataset.blanks.where[:, 1])
    expected = rf"data\.gappy: no training row has a value in feature 1 .*take the {by} of; leave it out"
    with pytest.raises(DataError, match=expected):
        filled(dataset, train)
    with pytest.raises(DataError, match="has a value in feature 'weight' to take"):
        filled(replace(dataset, features=("height", "weight", "age")), train)
