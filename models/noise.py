"""Normal numbers for a graph, from a cipher: a third of the work of TensorFlow's own generator, and stronger."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from federated.component import Vector
from federated.randomness import keyed_bits

KEY = 8
"""Whole numbers of 32 bits in a key."""

_CHUNK = 32_768  # numbers that stay in a core's cache


def normals(size: int, key: Any, deviation: Any = 1.0) -> Any:
    """Normal numbers around 0, shape (size,), a function of ``key``, shape (8,), drawn on the CPU."""
    drawn = tf.numpy_function(partial(drawn_with, size), [key, deviation], tf.float32, stateful=False)
    return tf.ensure_shape(drawn, [size])


def drawn_with(size: int, key: NDArray[np.int32], deviation: float = 1.0) -> Vector:
    """Normal numbers in float32, the largest of 6.7 deviations (Box and Muller 1958); their bits are AES-256's."""
    bits, drawn = keyed_bits(key.tobytes()), np.empty(size, np.float32)
    for start in range(0, size, _CHUNK):
        chunk = drawn[start : start + _CHUNK]
        half = (chunk.size + 1) // 2
        uniform = (bits(half).view(np.uint32).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
        radius = np.float32(deviation) * np.sqrt(np.float32(-2) * np.log(uniform[:half]))
        angle = uniform[half:] * np.float32(2 * math.pi)
        chunk[:half] = radius * np.cos(angle)
        rest = chunk.size - half
        chunk[half:] = radius[:rest] * np.sin(angle[:rest])
    return drawn
