"""Gradient inversion: a released model gives an image back that one client trained on, unless enough noise hides it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.component import Vector
from federated.data import Client, Split
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.loop import one_round
from federated.privacy.inversion import dense_input
from federated.rounds import initial_state
from federated.rules import FixedMean
from federated.sources import Digits
from federated.transforms import CentralGaussian, Clip, Transform
from federated.updates import l2_norm
from models.keras_engine import KerasEngine
from models.specs import Mlp

UNITS, PIXELS, IMAGES, NORM = 32, 64, 30, 0.1


@cache
def engine() -> KerasEngine:
    return KerasEngine(Mlp(hidden=(UNITS,)), (8, 8, 1), 10)


@cache
def digits() -> Split:
    rows = Digits().load().rows
    return Split(rows.x / np.float32(16), rows.y)


def released(image: int, *transforms: Transform, batch: int = 1) -> Vector:
    """How a model moved in a round of one client, who made one step on a batch that begins with ``image``."""
    algorithm = Algorithm(
        seed=image,
        local=LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=0.1)),
        transforms=transforms,
        rule=FixedMean(expected=1.0),
    )
    state = initial_state(algorithm, engine(), 1)
    rows = digits().take(np.arange(image, image + batch))
    passed = one_round(algorithm, engine(), state, {"a": Client("a", rows, rows.take(np.arange(0)))}, {})
    return passed.state.params - state.params


def likeness(image: int, moved: Vector) -> float:
    """The correlation of an image with what an attacker recovers from how the model moved."""
    kernel, bias = moved[: PIXELS * UNITS].reshape(PIXELS, UNITS), moved[PIXELS * UNITS :][:UNITS]
    return float(np.corrcoef(digits().x[image].ravel(), dense_input(kernel, bias))[0, 1])


def likenesses(*transforms: Transform, batch: int = 1) -> list[float]:
    return [likeness(image, released(image, *transforms, batch=batch)) for image in range(IMAGES)]


def noised(noise_multiplier: float) -> CentralGaussian:
    return CentralGaussian(norm=NORM, noise_multiplier=noise_multiplier, seeded=True)


def test_a_plain_update_gives_the_image_back() -> None:
    assert min(likenesses()) > 0.9999


def test_the_image_itself_is_found_and_not_only_its_likeness() -> None:
    moved = released(0)
    found = dense_input(moved[: PIXELS * UNITS].reshape(PIXELS, UNITS), moved[PIXELS * UNITS :][:UNITS])
    np.testing.assert_allclose(found, digits().x[0].ravel(), atol=1e-4)


def test_clipping_alone_hides_nothing() -> None:
    """It scales, and the quotient stays."""
    assert l2_norm(released(0)) > NORM
    assert min(likenesses(Clip(norm=NORM))) > 0.9999


def test_clip_and_noise_hide_the_image() -> None:
    """An image tells about as much of what is recovered from another: nothing; 30 images, of 64 pixels each."""
    found = likenesses(noised(1.0))
    assert abs(np.mean(found)) < 0.1
    assert np.max(np.abs(found)) < 0.5


def test_tiny_noise_is_no_protection() -> None:
    assert np.mean(likenesses(noised(0.01))) > 0.95


def test_a_batch_is_a_mixture_of_its_images() -> None:
    found = likenesses(batch=16)
    assert 0.5 < np.mean(found) < 0.9


def test_noise_is_averaged_over_the_units() -> None:
    """The least-squares solution is better than the quotient of any one unit, where all are noised alike."""
    moved = released(0, noised(0.01))
    kernel, bias = moved[: PIXELS * UNITS].reshape(PIXELS, UNITS), moved[PIXELS * UNITS :][:UNITS]
    image = digits().x[0].ravel()
    one = [float(np.corrcoef(image, kernel[:, unit] / bias[unit])[0, 1]) for unit in range(UNITS)]
    assert likeness(0, moved) > max(one)


@pytest.mark.parametrize(
    ("kernel", "bias", "said"),
    [
        (np.ones((3, 2)), np.ones(3), r"got \(3, 2\) and \(3,\)"),
        (np.ones(3), np.ones(3), r"got \(3,\) and \(3,\)"),
        (np.ones((3, 2)), np.zeros(2), "the layer was not trained"),
    ],
)
def test_what_is_no_dense_layer_that_moved_is_refused(kernel, bias, said) -> None:
    with pytest.raises(ValueError, match=said):
        dense_input(kernel, bias)
