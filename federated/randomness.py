"""Randomness as a function: nothing to store, nothing global, the same on one worker or eight."""

import hashlib

import numpy as np


def generator(seed: int, round: int, purpose: str, client: str = "") -> np.random.Generator:
    """The random stream of one client (or the server: ``client=""``) in one round for one purpose."""
    digest = hashlib.sha256(f"{seed}/{round}/{purpose}/{client}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
