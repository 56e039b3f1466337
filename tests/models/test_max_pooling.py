"""The quicker gradient of max-pooling against TensorFlow's own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from federated.data import Split
from federated.dp_sgd import DpSgd
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from models.architecture import Asked
from models.keras_engine import KerasEngine
from models.max_pooling import TiledMaxPooling2D, tile_pools
from models.specs import Cnn


def pooled(layer: keras.layers.Layer, x: tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What the layer makes of images, and the gradient of a sum in which everything has another weight."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        total = tf.reduce_sum(y * tf.reshape(tf.range(1.0, 1.0 + tf.cast(tf.size(y), tf.float32)), y.shape))
    return y.numpy(), tape.gradient(total, x).numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool_size": (3, 2)},
        {"pool_size": 1},
        {"pool_size": (6, 4)},
        {"padding": "same"},
        {"pool_size": 2, "strides": 1},
        {"pool_size": 3},
        {"pool_size": 3, "padding": "same"},
    ],
    ids=str,
)
@pytest.mark.parametrize("many", [3, 1000], ids=["ties", "numbers"])
def test_images_and_gradients_are_tensorflows(options: dict[str, Any], many: int) -> None:
    """Of equals, the first of a window gets the gradient; windows that overlap or do not tile are Keras' own."""
    x = tf.constant(np.random.default_rng(0).integers(-many, many, (5, 6, 4, 3)), tf.float32)
    own = pooled(TiledMaxPooling2D(**options), x)
    for ours, theirs in zip(own, pooled(keras.layers.MaxPooling2D(**options), x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_images_of_any_size_and_none_are_pooled() -> None:
    layer = TiledMaxPooling2D()
    assert layer(tf.zeros([0, 4, 4, 1])).shape == (0, 2, 2, 1)
    assert keras.Sequential([keras.Input((None, None, 1)), layer])(tf.zeros([2, 6, 5, 1])).shape == (2, 3, 2, 1)


def test_a_value_that_is_no_number_is_passed_on() -> None:
    images = np.zeros((4, 2, 2, 1), np.float32)
    images.reshape(4, 4)[range(4), range(4)] = np.nan
    assert np.isnan(TiledMaxPooling2D()(images)).all()


def test_inner_models_are_given_it_and_other_layers_are_not() -> None:
    inner = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.MaxPooling2D(), keras.layers.AveragePooling2D(2)])
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.MaxPooling2D(), inner])
    tile_pools(model)
    found = sorted(type(layer).__name__ for layer in model._flatten_layers() if "Pooling" in type(layer).__name__)
    assert found == ["AveragePooling2D", "TiledMaxPooling2D", "TiledMaxPooling2D"]


PLAIN = LocalTraining(steps=6, batch_size=6, optimizer=Sgd(learning_rate=0.1))
CLIPPED = PLAIN.model_copy(update={"clip_examples": 0.5})
PRIVATE = PLAIN.model_copy(update={"dp_sgd": DpSgd(norm=0.5, noise_multiplier=1.0, seeded=True)})


@pytest.mark.parametrize(
    ("work", "compilation"),
    [(PLAIN, "graph"), (PLAIN, "xla"), (CLIPPED, "graph"), (PRIVATE, "graph")],
    ids=["graph", "xla", "clip_examples", "dp_sgd"],
)
def test_a_network_trains_to_the_same_bits_with_it(
    work: LocalTraining, compilation: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    data = Split(rng.random((20, 12, 8, 2), dtype=np.float32), rng.integers(0, 3, 20).astype(np.int32))

    def trained() -> np.ndarray:
        engine = KerasEngine(Cnn(filters=(4, 8), hidden=16), (12, 8, 2), 3, compilation)
        return engine.fit(engine.init(3), data, work, np.random.default_rng(5)).params

    quick, used = trained(), []
    monkeypatch.setattr("models.keras_engine.tile_pools", used.append)
    np.testing.assert_array_equal(quick, trained())
    assert used
