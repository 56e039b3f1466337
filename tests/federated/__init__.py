"""Tests of the method: NumPy only, no server and no TensorFlow."""
