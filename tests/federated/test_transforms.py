"""Transforms: laws over the family, and an oracle for each member."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federated.transforms import Clip, ClipElements
from federated.updates import l2_norm
from tests.fakes import update
from tests.federated.families import TRANSFORMS

each_transform = pytest.mark.parametrize("transform", TRANSFORMS, ids=repr)


def encode(transform, delta, seed: int = 0):
    return transform.encode(update("a", delta, 7.0), np.random.default_rng(seed))


def there_and_back(transform, delta, seed: int = 0):
    """One client's update as the server optimizer would see it, were it the only one."""
    received = transform.decode(encode(transform, delta, seed))
    rng = np.random.default_rng(seed)
    return transform.finish(transform.init(len(delta)), received.delta, ("a",), rng).result


def vectors(count: int = 20, size: int = 30, scale: float = 1.0):
    rng = np.random.default_rng(3)
    return [(rng.normal(size=size) * scale).astype(np.float32) for _ in range(count)]


@each_transform
def test_a_zero_update_stays_zero(transform) -> None:
    np.testing.assert_array_equal(there_and_back(transform, np.zeros(4)), np.zeros(4))


@each_transform
def test_a_transform_is_a_function_of_update_and_randomness(transform) -> None:
    for delta in vectors():
        np.testing.assert_array_equal(there_and_back(transform, delta, 1), there_and_back(transform, delta, 1))


@each_transform
def test_a_transform_leaves_name_weight_and_the_clients_own_metrics_alone(transform) -> None:
    sent = replace(update("a", [3.0, 4.0], 7.0), metrics={"train_loss": 0.5})
    received = transform.decode(transform.encode(sent, np.random.default_rng(0)))
    assert (received.client, received.weight) == ("a", 7.0)
    assert received.metrics.items() >= {"train_loss": 0.5}.items()


@each_transform
def test_a_transform_keeps_shape_and_type_and_does_not_touch_what_it_was_given(transform) -> None:
    given = update("a", [3.0, -4.0, 0.1])
    received = transform.decode(transform.encode(given, np.random.default_rng(0)))
    assert received.delta.shape == (3,)
    assert received.delta.dtype == np.float32
    np.testing.assert_array_equal(given.delta, np.array([3.0, -4.0, 0.1], np.float32))
    assert given.metrics == {}


@each_transform
def test_an_update_with_nan_is_never_made_usable(transform) -> None:
    assert not encode(transform, [np.nan, 1.0]).finite


@each_transform
def test_an_update_with_infinity_is_never_made_usable(transform) -> None:
    with np.errstate(invalid="ignore"):
        assert not encode(transform, [np.inf, 1.0]).finite


def test_clipping_an_infinite_update_warns_of_nothing() -> None:
    assert not encode(Clip(norm=1.0), [np.inf, 1.0]).finite


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("limit", [1e-3, 1.0, 17.0])
def test_clipping_never_leaves_a_norm_above_the_limit(limit, scale) -> None:
    for delta in vectors(scale=scale):
        assert l2_norm(encode(Clip(norm=limit), delta).delta) <= limit * (1 + 1e-6)


def test_clip_scales_by_the_ratio_of_limit_and_norm() -> None:
    for delta in vectors():
        exact = delta.astype(np.float64)
        expected = exact * min(1.0, 2.5 / np.linalg.norm(exact))
        np.testing.assert_allclose(encode(Clip(norm=2.5), delta).delta, expected, rtol=1e-5)


def test_clip_passes_an_update_within_the_limit_bit_for_bit() -> None:
    np.testing.assert_array_equal(encode(Clip(norm=5.0), [3.0, 4.0]).delta, np.array([3.0, 4.0], np.float32))


def test_clip_reports_the_norm_and_whether_it_clipped() -> None:
    assert encode(Clip(norm=5.0), [3.0, 4.0]).metrics == {"update_norm": 5.0, "clipped": 0.0}
    assert encode(Clip(norm=4.9), [3.0, 4.0]).metrics == {"update_norm": 5.0, "clipped": 1.0}


def test_clip_elements_limits_each_coordinate_by_itself() -> None:
    for delta in vectors():
        expected = [max(-0.7, min(0.7, float(value))) for value in delta]
        encoded = encode(ClipElements(threshold=0.7), delta).delta
        np.testing.assert_allclose(encoded, expected, rtol=1e-7)
        assert np.abs(encoded).max() <= np.float32(0.7)


def test_clip_elements_reports_the_share_of_clipped_coordinates() -> None:
    metrics = encode(ClipElements(threshold=1.0), [3.0, 0.5, -2.0, 1.0]).metrics
    assert metrics == {"clipped_elements": 0.5}
