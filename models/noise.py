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
_RARE = 2**16  # of 2³²: bits below are few, and get 64 more


def normals(size: int, key: Any, deviation: Any = 1.0) -> Any:
    """Normal numbers around 0, shape (size,), a function of ``key``, shape (8,), drawn on the CPU."""
    drawn = tf.numpy_function(partial(drawn_with, size), [key, deviation], tf.float32, stateful=False)
    return tf.ensure_shape(drawn, [size])


def drawn_with(size: int, key: NDArray[np.int32], deviation: float = 1.0) -> Vector:
    """Normal numbers in float32 (Box and Muller 1958); their bits are AES-256's.

    The largest is of 11.6 deviations. From 32 bits alone it would be of 6.7, and what lies beyond would tell of a
    record, once in 10¹¹ numbers: more often than a small δ allows where there are many.
    """
    bits, drawn = keyed_bits(key.tobytes()), np.empty(size, np.float32)
    for start in range(0, size, _CHUNK):
        chunk = drawn[start : start + _CHUNK]
        half = (chunk.size + 1) // 2
        words = bits(half).view(np.uint32)
        uniform = (words.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-32)
        rare = np.flatnonzero(words[:half] < _RARE)
        if rare.size:
            uniform[rare] = (words[rare] + (bits(rare.size) + 0.5) * 2.0**-64) * 2.0**-32
        radius = np.float32(deviation) * np.sqrt(np.float32(-2) * np.log(uniform[:half]))
        angle = uniform[half:] * np.float32(2 * math.pi)
        chunk[:half] = radius * np.cos(angle)
        rest = chunk.size - half
        chunk[half:] = radius[:rest] * np.sin(angle[:rest])
    return drawn
