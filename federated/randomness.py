"""Randomness as a function: nothing to store, nothing global, the same on one worker or eight. And that of secrets."""

import hashlib
import os
import secrets

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, round: int, purpose: str, client: str = "") -> np.random.Generator:
    """The random stream of one client (or the server: ``client=""``) in one round for one purpose."""
    digest = hashlib.sha256(f"{seed}/{round}/{purpose}/{client}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def secret_generator() -> np.random.Generator:
    """A stream that nobody can repeat: its seed is the operating system's entropy, and is kept nowhere."""
    return np.random.Generator(np.random.PCG64(secrets.randbits(128)))


def secret_normals(size: int) -> NDArray[np.float64]:
    """Standard normal numbers, every bit of them from the operating system (Box and Muller 1958)."""
    half = (size + 1) // 2
    drawn = np.frombuffer(os.urandom(16 * half), np.uint64) >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((drawn[:half] + 1.0) * 2.0**-53))  # of (0, 1]: the logarithm is finite
    angle = drawn[half:] * (2.0 * np.pi * 2.0**-53)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]
