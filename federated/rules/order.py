"""Order statistics of columns, by a sorting network: whole rows are compared at once, and every step is NumPy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from federated.component import Vector

_LARGEST_NETWORK = 192  # rows; above, sorting each column takes fewer steps

Ranks = range
"""Places in rising order, from 0."""


def ordered(rows: list[Vector], ranks: tuple[Ranks, ...]) -> list[Vector]:
    """The same numbers column by column, those of the wanted ranks at their places and the others anywhere.

    Overwrites ``rows``, which hold no NaN.
    """
    if len(rows) > _LARGEST_NETWORK:
        return list(np.sort(np.stack(rows, axis=1), axis=1).T)
    spare = np.empty_like(rows[0])
    for low, high in _network(len(rows), ranks):
        smaller = np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = smaller, rows[low]
    return rows


@lru_cache(maxsize=64)
def _network(rows: int, ranks: tuple[Ranks, ...]) -> tuple[tuple[int, int], ...]:
    """The comparisons on which the wanted ranks depend, in order."""
    wanted = {rank for some in ranks for rank in some}
    kept = list[tuple[int, int]]()
    for low, high in reversed(list(_merge_exchange(rows))):
        if low in wanted or high in wanted:
            wanted |= {low, high}
            kept.append((low, high))
    return tuple(reversed(kept))


def _merge_exchange(rows: int) -> Iterator[tuple[int, int]]:
    """Comparisons that sort so many numbers (Batcher 1968; Knuth 1998, volume 3, algorithm 5.2.2M)."""
    if rows < 2:
        return
    half = top = 1 << ((rows - 1).bit_length() - 1)
    while half > 0:
        distance, remainder, stride = half, 0, top
        while True:
            yield from ((low, low + distance) for low in range(rows - distance) if low & half == remainder)
            if stride == half:
                break
            distance, stride, remainder = stride - half, stride // 2, half
        half //= 2


def middle(rows: Sequence[Vector]) -> Vector:
    """The median of rows whose middle is in order; halves are added, because a sum could overflow."""
    low, high = rows[(len(rows) - 1) // 2], rows[len(rows) // 2]
    return low if low is high else low * np.float32(0.5) + high * np.float32(0.5)


def middle_ranks(rows: int) -> Ranks:
    """The one or two ranks that the median looks at."""
    return range((rows - 1) // 2, rows // 2 + 1)
