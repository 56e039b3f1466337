"""Sources that need no file: laws over the family, and an oracle for each member."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_linnerud, load_wine

from federated.errors import PlanError
from federated.sources import BreastCancer, CustomSource, Diabetes, Digits, Iris, Line, Linnerud, Wine
from tests.fakes import small_dataset
from tests.federated.families import SOURCES_WITHOUT_A_FILE, USER_CODE

each_source = pytest.mark.parametrize("source", SOURCES_WITHOUT_A_FILE, ids=repr)


@each_source
def test_a_source_yields_the_same_rows_each_time(source) -> None:
    first, again = source.load(), source.load()
    np.testing.assert_array_equal(first.rows.x, again.rows.x)
    np.testing.assert_array_equal(first.rows.y, again.rows.y)
    assert first.labels == again.labels


@each_source
def test_a_source_yields_what_models_take(source) -> None:
    dataset = source.load()
    assert dataset.rows.x.dtype == np.float32
    assert dataset.rows.y.shape == (len(dataset.rows.x),)
    assert dataset.rows.y.dtype == (np.float32 if dataset.labels is None else np.int32)


@each_source
def test_a_source_says_where_its_rows_come_from(source) -> None:
    assert source.load().origin.startswith("data.")


def test_digits_are_scikit_learns() -> None:
    dataset, reference = Digits().load(), load_digits()
    np.testing.assert_array_equal(dataset.rows.x[..., 0], reference.images)
    np.testing.assert_array_equal(dataset.rows.y, reference.target)
    assert dataset.labels == tuple(str(name) for name in reference.target_names)
    assert dataset.rows.x.shape == (1797, 8, 8, 1)


def test_breast_cancer_is_scikit_learns() -> None:
    dataset, reference = BreastCancer().load(), load_breast_cancer()
    np.testing.assert_array_equal(dataset.rows.x, reference.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.rows.y, reference.target)
    assert dataset.labels == tuple(str(name) for name in reference.target_names)


@pytest.mark.parametrize(("source", "reference"), [(Iris(), load_iris), (Wine(), load_wine)], ids=["iris", "wine"])
def test_flowers_and_wines_are_scikit_learns(source, reference) -> None:
    dataset, known = source.load(), reference()
    np.testing.assert_array_equal(dataset.rows.x, known.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.rows.y, known.target)
    assert dataset.labels == tuple(str(name) for name in known.target_names)


def test_diabetes_is_scikit_learns_as_it_was_measured() -> None:
    dataset, known = Diabetes().load(), load_diabetes(scaled=False)
    np.testing.assert_array_equal(dataset.rows.x, known.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.rows.y, known.target.astype(np.float32))
    assert dataset.labels is None


@pytest.mark.parametrize("place", range(3))
def test_linnerud_is_scikit_learns_whichever_is_the_target(place) -> None:
    known = load_linnerud()
    dataset = Linnerud(target=known.target_names[place].lower()).load()
    np.testing.assert_array_equal(dataset.rows.x, known.data.astype(np.float32))
    np.testing.assert_array_equal(dataset.rows.y, known.target[:, place].astype(np.float32))


def test_a_line_has_the_least_squares_that_it_should() -> None:
    rows = Line(clients=8, points=500, slope=-3.0, intercept=0.5, noise=2.0, seed=1).load().rows
    x, y = rows.x[:, 0].astype(float), rows.y.astype(float)
    found = stats.linregress(x, y)
    assert abs(found.slope + 3.0) < 4 * found.stderr
    assert abs(found.intercept - 0.5) < 4 * found.intercept_stderr
    noise = y - (-3.0 * x + 0.5)
    assert stats.kstest(noise, stats.norm(0, 2.0).cdf).pvalue > 0.01
    assert stats.kstest(x, stats.uniform(-2, 4).cdf).pvalue > 0.01


def test_a_line_without_noise_is_exact() -> None:
    rows = Line(noise=0.0, slope=4.0, intercept=-1.0).load().rows
    np.testing.assert_allclose(rows.y, 4.0 * rows.x[:, 0].astype(float) - 1.0, atol=1e-6)


def test_every_client_of_a_line_has_its_points() -> None:
    dataset = Line(clients=3, points=7).load()
    names, counts = np.unique(dataset.keys, return_counts=True)
    assert names.tolist() == ["client-0", "client-1", "client-2"]
    assert counts.tolist() == [7, 7, 7]


def test_another_seed_is_another_line() -> None:
    assert not np.array_equal(Line(seed=1).load().rows.x, Line(seed=2).load().rows.x)


def test_a_custom_loader_gets_its_options_and_gives_its_rows() -> None:
    source = CustomSource(target=f"{USER_CODE}:load_rows", options={"rows": 33})
    np.testing.assert_array_equal(source.load().rows.x, small_dataset(33).rows.x)


def test_a_loader_that_returns_something_else_is_refused() -> None:
    source = CustomSource(target=f"{USER_CODE}:load_numbers")
    with pytest.raises(PlanError, match=r"user_code:load_numbers': expected it to give a Dataset, got list"):
        source.load()


def test_a_loader_in_no_module_is_refused_when_it_is_read() -> None:
    with pytest.raises(PlanError, match=r"cannot import 'no_such_module'"):
        CustomSource(target="no_such_module:load").load()
