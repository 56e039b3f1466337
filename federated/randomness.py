"""Randomness as a function: nothing to store, nothing global, the same on one worker or eight. And that of secrets."""

import hashlib
import hmac
import secrets
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_DRAWN = 65_536  # proposals at a time


def generator(seed: int, round: int, purpose: str, client: str = "") -> np.random.Generator:
    """The random stream of one client (or the server: ``client=""``) in one round for one purpose."""
    digest = hashlib.sha256(f"{seed}/{round}/{purpose}/{client}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def secret_generator() -> np.random.Generator:
    """A stream that nobody can repeat: its seed is the operating system's entropy, and is kept nowhere."""
    return np.random.Generator(np.random.PCG64(secrets.randbits(128)))


Bits = Callable[[int], NDArray[np.uint64]]
"""So many numbers of 64 random bits."""


def secret_bits() -> Bits:
    """Bits that nobody can repeat: see ``keyed_bits``; the key is the operating system's entropy, kept nowhere."""
    return keyed_bits(secrets.token_bytes(32))


def keyed_bits(key: bytes) -> Bits:
    """The bits that belong to a key of 32 bytes: whoever lacks it cannot tell them from chance (AES-256-CTR).

    A key must be for one purpose: the bits of two streams with one key are the same.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: np.frombuffer(stream.update(bytes(8 * count)), np.uint64)


def derived_key(key: bytes, purpose: str) -> bytes:
    """The key for a purpose, from which neither ``key`` nor that for another one is found (HMAC-SHA-256)."""
    return hmac.digest(key, purpose.encode(), "sha256")


def secret_normals(size: int) -> NDArray[np.float64]:
    """Standard normal numbers that nobody can draw again."""
    return normals(secret_bits(), size)


def normals(bits: Bits, size: int) -> NDArray[np.float64]:
    """Standard normal numbers by the polar method (Marsaglia and Bray 1964), from 53 bits a coordinate."""
    found = np.empty(size)
    filled = 0
    while filled < size:
        drawn = _polar(bits, min(_DRAWN // 4, size - filled))[: size - filled]
        found[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return found


def _polar(bits: Bits, about: int) -> NDArray[np.float64]:
    """Of points in a square, those in its circle: π / 4 of them."""
    pairs = int(0.65 * about) + 8
    x, y = ((bits(2 * pairs) >> np.uint64(11)) * 2.0**-52 - (1 - 2.0**-53)).reshape(2, pairs)  # of (-1, 1), never 0
    squared = x * x + y * y
    inside = np.flatnonzero(squared < 1)
    x, y, squared = x[inside], y[inside], squared[inside]
    longer = np.sqrt(-2 * np.log(squared) / squared)
    return np.concatenate([x * longer, y * longer])


def secret_uniforms(size: int) -> NDArray[np.float64]:
    """Numbers of [0, 1) that nobody can draw again."""
    return np.asarray((secret_bits()(size) >> np.uint64(11)) * 2.0**-53, np.float64)


POISSON_MEANS = (1e3, 2.0**50)
"""From and up to which mean ``poisson`` draws."""


def poisson(mean: float, size: int, draw: Callable[[int], NDArray[np.float64]]) -> NDArray[np.int64]:
    """Poisson numbers by transformed rejection (Hörmann 1993, algorithm PTRS); ``draw`` gives numbers of [0, 1).

    Raises:
        ValueError: the mean is not among ``POISSON_MEANS``.
    """
    low, high = POISSON_MEANS
    if not low <= mean <= high:
        raise ValueError(f"expected a mean from {low:g} to {high:g}, got {mean:g}")
    found = np.empty(size, np.int64)
    filled = 0
    while filled < size:
        kept = _accepted(mean, min(_DRAWN, size - filled + 8), draw)[: size - filled]
        found[filled : filled + kept.size] = kept
        filled += kept.size
    return found


def _accepted(mean: float, count: int, draw: Callable[[int], NDArray[np.float64]]) -> NDArray[np.int64]:
    """Those of ``count`` proposals that are taken, about 9 of 10; names are the paper's."""
    b = 0.931 + 2.53 * np.sqrt(mean)
    a = -0.059 + 0.02483 * b
    alpha = 1.1239 + 1.1328 / (b - 3.4)
    u, v = draw(count) - 0.5, draw(count)
    with np.errstate(divide="ignore"):  # the ends of the interval, which are not taken
        us = 0.5 - np.abs(u)
        k = np.floor((2 * a / us + b) * u + mean + 0.43)
        inside = (k >= 1) & (k < 2 * mean)  # beyond lies less than a float's smallest probability
        k, us, v = k[inside], us[inside], v[inside]
        chance = np.log(v * alpha / (a / us**2 + b))
    return np.asarray(k[chance <= poisson_log_probability(k, mean)], np.int64)


def poisson_log_probability(k: NDArray[np.float64], mean: float) -> NDArray[np.float64]:
    """Of Poisson numbers, by Stirling's series; from the distance to the mean, so that large terms do not cancel."""
    away = (k - mean) / mean
    deviance = mean * ((1 + away) * np.log1p(away) - away)
    return np.asarray(-deviance - 0.5 * np.log(2 * np.pi * k) - 1 / (12 * k) + 1 / (360 * k**3))
