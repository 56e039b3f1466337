"""Scalings: laws over the family, and an oracle for each member."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from federated.data import Split
from federated.errors import PlanError
from federated.scaling import AsIs, Divide, Given, Standardize
from tests.federated.families import SCALINGS

each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=repr)


def clients(seed: int = 0, sizes: tuple[int, ...] = (5, 40, 17)) -> list[Split]:
    """Clients that differ in size and in distribution; the last feature is constant."""
    rng = np.random.default_rng(seed)
    scale, shift = np.array([1e-3, 1.0, 50.0, 0.0]), np.array([0.0, -3.0, 1e4, 0.1])
    return [
        Split(
            (rng.normal(site, 1 + site, size=(rows, 4)) * scale + shift).astype(np.float32),
            np.arange(rows, dtype=np.float32),
        )
        for site, rows in enumerate(sizes)
    ]


def pooled(splits: list[Split]) -> np.ndarray:
    return np.concatenate([split.x for split in splits])


@each_scaling
def test_scaling_keeps_shape_type_and_targets(scaling) -> None:
    split = clients()[1]
    scaled = scaling.fit(clients()).apply(split)
    assert scaled.x.shape == split.x.shape
    assert scaled.x.dtype == np.float32
    np.testing.assert_array_equal(scaled.y, split.y)


@each_scaling
def test_it_does_not_matter_who_holds_which_rows(scaling) -> None:
    x = pooled(clients())
    apart = scaling.fit(clients())
    together = scaling.fit([Split(x, np.zeros(len(x), np.float32))])
    np.testing.assert_allclose(apart.mean, together.mean, rtol=1e-6)
    np.testing.assert_allclose(apart.std, together.std, rtol=1e-6)


@each_scaling
def test_images_are_scaled_pixel_by_pixel_and_stay_finite(scaling) -> None:
    x = np.random.default_rng(0).integers(0, 17, size=(30, 8, 8, 1)).astype(np.float32)
    x[:, 0] = 0
    affine = scaling.fit([Split(x, np.zeros(30, np.int32))])
    assert affine.mean.shape == affine.std.shape == (8, 8, 1)
    assert affine.mean.dtype == affine.std.dtype == np.float32
    assert np.isfinite(affine.apply(Split(x, np.zeros(30, np.int32))).x).all()


def test_as_is_changes_no_bit() -> None:
    split = clients()[0]
    np.testing.assert_array_equal(AsIs().fit(clients()).apply(split).x, split.x)


def test_divide_divides() -> None:
    split = clients()[0]
    scaled = Divide(by=255).fit(clients()).apply(split).x
    np.testing.assert_allclose(scaled, split.x.astype(np.float64) / 255, rtol=1e-6)


def test_given_numbers_scale_each_feature_by_its_own() -> None:
    split, mean, std = clients()[1], (1e-3, -3, 1e4, 0), (2e-3, 2, 50, 0.5)
    scaled = Given(mean=mean, std=std).fit(clients()).apply(split).x
    np.testing.assert_allclose(scaled, (split.x - np.array(mean)) / np.array(std), rtol=1e-4, atol=1e-5)


def test_given_numbers_look_at_no_row() -> None:
    scaling = Given(mean=(1, 2, 3, 4), std=(5,))
    one, other = scaling.fit(clients(0)), scaling.fit(clients(1)[:1])
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.std, other.std)
    assert (scaling.fitted, scaling.reveals) == (False, False)


def test_one_given_number_is_for_all_features() -> None:
    split = clients()[0]
    np.testing.assert_array_equal(
        Given(mean=(3,), std=(2,)).fit(clients()).apply(split).x,
        Given(mean=(3, 3, 3, 3), std=(2, 2, 2, 2)).fit(clients()).apply(split).x,
    )


@pytest.mark.parametrize(("mean", "std", "field"), [((1, 2, 3), (1,), "mean"), ((1,), (1, 2, 3, 4, 5), "std")])
def test_given_numbers_that_are_not_one_a_feature_are_refused(mean, std, field) -> None:
    said = rf"scaling.given.{field}: expected one number for each of the 4 features.* got {max(len(mean), len(std))}"
    with pytest.raises(PlanError, match=said):
        Given(mean=mean, std=std).fit(clients())


@pytest.mark.parametrize("std", [(0,), (1, -1), (float("inf"),), ()])
def test_a_given_deviation_of_nothing_or_less_is_refused(std) -> None:
    with pytest.raises(ValueError, match="std"):
        Given(mean=(0,), std=std)


@pytest.mark.parametrize("seed", range(3))
def test_standardize_is_scikit_learns_scaler_on_the_pooled_rows(seed) -> None:
    splits = clients(seed)
    affine, scaler = Standardize().fit(splits), StandardScaler().fit(pooled(splits).astype(float))
    np.testing.assert_allclose(affine.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(affine.std, scaler.scale_, rtol=1e-6)
    scaled = affine.apply(splits[0]).x[:, :2]
    expected = scaler.transform(splits[0].x.astype(float))[:, :2]
    np.testing.assert_allclose(scaled, expected, rtol=1e-4, atol=1e-5)


def test_a_constant_feature_is_only_centred() -> None:
    affine = Standardize().fit(clients())
    assert affine.std[3] == 1
    np.testing.assert_allclose(affine.apply(clients()[0]).x[:, 3], 0, atol=1e-7)


def test_a_feature_that_is_constant_but_for_rounding_is_only_centred() -> None:
    x = np.ones((1000, 1), np.float32)
    x[0] = np.nextafter(np.float32(1), np.float32(2))
    assert Standardize().fit([Split(x, np.zeros(1000, np.float32))]).std == 1


@pytest.mark.parametrize("by", [0, -1])
def test_dividing_by_nothing_or_less_is_refused(by) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Divide(by=by)


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_clients_own_numbers_are_numpys_of_its_rows_alone(ddof) -> None:
    splits = dict(zip("abc", clients(), strict=True))
    own = Standardize(per="client", ddof=ddof).fit_each(splits)
    assert own.keys() == splits.keys()
    for name, split in splits.items():
        x = split.x[:, :3].astype(float)
        np.testing.assert_allclose(own[name].mean[:3], np.mean(x, axis=0), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(own[name].std[:3], np.std(x, axis=0, ddof=ddof), rtol=1e-6)
        assert own[name].std[3] == 1  # constant


def test_one_degree_less_is_taken_once_from_all_rows_together() -> None:
    splits = clients()
    affine = Standardize(ddof=1).fit(splits)
    np.testing.assert_allclose(affine.std[:3], pooled(splits).astype(float).std(axis=0, ddof=1)[:3], rtol=1e-6)


@pytest.mark.parametrize("ddof", [0, 1])
def test_a_client_of_one_row_is_only_centred(ddof) -> None:
    row = clients()[0].take(np.array([0]))
    affine = Standardize(per="client", ddof=ddof).fit_each({"a": row})["a"]
    np.testing.assert_array_equal(affine.std, 1)
    np.testing.assert_array_equal(affine.apply(row).x, 0)


@each_scaling
def test_what_clients_do_not_share_is_left_to_callers(scaling) -> None:
    """A served model repeats the numbers of all, or leaves all of it to its callers."""
    own = scaling.fit_each({"a": clients()[0]})
    assert scaling.left_to_callers == (scaling if own else AsIs())
