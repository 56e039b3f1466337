"""Noise for sums that grow round by round: the square root of the matrix that sums prefixes, which is Toeplitz.

With A the lower triangular matrix of ones, A = C C, where column 0 of C has c_0 = 1, c_k = c_{k-1} (2k - 1) / 2k
(Fichtenberger, Henzinger, Upadhyay 2023): the power series of (1 - x)^(-1/2). That of (1 - x)^(1/2) gives its inverse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def factor(rounds: int) -> NDArray[np.float64]:
    """Column 0 of C, shape (rounds,): positive, and never rising."""
    k = np.arange(1, rounds)
    return np.cumprod(np.concatenate([[1.0], (2 * k - 1) / (2 * k)]))


def inverse(rounds: int) -> NDArray[np.float64]:
    """Column 0 of C⁻¹, shape (rounds,)."""
    k = np.arange(1, rounds)
    return np.cumprod(np.concatenate([[1.0], (2 * k - 3) / (2 * k)]))


def sensitivity(rounds: int, participations: int) -> float:
    """How far the rows of C times a training's sums lie from those without one client, whose updates have norm 1.

    It takes part in at most so many of the rounds, in any. C has no negative entry, so equal updates are the worst, and
    they move the rows by the norm of the sum of their rounds' columns. Two columns have a larger inner product the
    earlier and the closer they are, since c never rises: the first rounds, one after the other, are the worst (as
    Kalinin and Lampert 2024 show for rounds with gaps). The norm is exact, and at most ``participations`` times that of
    one column.
    """
    columns = np.convolve(factor(rounds), np.ones(participations))[:rounds]
    return float(np.linalg.norm(columns))
