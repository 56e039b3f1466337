"""Losses and scores of single examples, against their definitions in float64."""

import numpy as np
import pytest

from models.objectives import objective
from tests.models.samples import classified, valued, weights

ROWS = 12


def logits(units: int, scale: float) -> np.ndarray:
    return scale * weights(ROWS * units).reshape(ROWS, units)


def log_softmax(outputs: np.ndarray) -> np.ndarray:
    shifted = outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def test_regression_is_measured_by_squared_and_absolute_error():
    measure, outputs, y = objective(None), logits(1, 1.0), valued(ROWS, 1).y
    expected = outputs[:, 0] - y
    np.testing.assert_allclose(measure.loss(y, outputs), expected**2, rtol=1e-6)
    np.testing.assert_allclose(measure.score(y, outputs), np.abs(expected), rtol=1e-6)
    assert measure.score_name == "mae"


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_two_classes_are_measured_by_cross_entropy_of_one_logit(scale):
    measure, outputs, y = objective(2), logits(1, scale), classified(ROWS, 1, 2).y
    both = np.column_stack([np.zeros(ROWS), outputs])
    expected = -log_softmax(both)[np.arange(ROWS), y]
    np.testing.assert_allclose(measure.loss(y, outputs), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(measure.score(y, outputs), (outputs[:, 0] > 0) == y)
    assert measure.score_name == "accuracy"


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_more_classes_are_measured_by_cross_entropy_of_a_logit_each(scale):
    measure, outputs, y = objective(3), logits(3, scale), classified(ROWS, 1, 3).y
    expected = -log_softmax(outputs)[np.arange(ROWS), y]
    np.testing.assert_allclose(measure.loss(y, outputs), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(measure.score(y, outputs), outputs.argmax(axis=1) == y)
    assert measure.score_name == "accuracy"
