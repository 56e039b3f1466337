"""A cohort's matrix, a row a client, worked on in blocks of columns by several threads.

The rows stay where the updates hold them: what is needed besides is a few blocks. Where blocks begin depends on the
shape alone, and no two threads write to the same place, so the bits are the same for any number of threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from federated.component import Vector

Doubles = NDArray[np.float64]
"""Numbers where float32 would overflow or lose too much."""

_ENTRIES = 1 << 20  # of a block: 4 MiB of float32, 8 of float64
_NARROWEST, _WIDEST = 1024, 16_384  # columns of a block: worth a call of NumPy, and a row fits in a cache
_MOST_THREADS = 8  # each holds a block or two


def blocks(rows: int, size: int) -> list[slice]:
    """The columns of each block of a matrix of shape (rows, size)."""
    width = min(max(_ENTRIES // max(rows, 1), _NARROWEST), _WIDEST)
    return [slice(start, min(start + width, size)) for start in range(0, size, width)]


@contextmanager
def side_by_side(tasks: int) -> Iterator[Callable[[Callable[[int], object]], None]]:
    """Gives what calls a function with 0, 1 … ``tasks`` - 1 in threads; NumPy lets go of the interpreter's lock."""
    threads = min(_cores(), _MOST_THREADS, tasks)
    if threads <= 1:
        yield lambda work: _exhaust(map(work, range(tasks)))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda work: _exhaust(pool.map(work, range(tasks)))


def _exhaust(results: Iterator[object]) -> None:
    """Waits for all, and raises what one of them has raised."""
    deque(results, maxlen=0)


def each_block(rows: int, size: int, work: Callable[[int, slice], None]) -> None:
    """Calls ``work`` with the number and the columns of every block, side by side."""
    parts = blocks(rows, size)
    with side_by_side(len(parts)) as each:
        each(lambda number: work(number, parts[number]))


def _cores() -> int:
    """How many of them this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def by_column(vectors: Sequence[Vector], compute: Callable[[list[Vector]], NDArray[np.floating]]) -> Vector:
    """What ``compute`` makes of each block, shape (parameters,); its rows are copies, which it may overwrite."""
    result = np.empty(vectors[0].size, np.float32)

    def work(number: int, part: slice) -> None:
        result[part] = compute([vector[part].astype(np.float32) for vector in vectors])

    each_block(len(vectors), result.size, work)
    return result


def squared_distances(vectors: Sequence[Vector], point: Vector | None = None) -> Doubles:
    """|xᵢ - p|² of every row, shape (rows,), in float64; p is zero where there is none."""
    size = vectors[0].size
    partial = np.zeros((len(blocks(1, size)), len(vectors)))

    def work(number: int, part: slice) -> None:
        for row, vector in enumerate(vectors):
            away = vector[part].astype(np.float64)
            if point is not None:
                away -= point[part]
            partial[number, row] = np.einsum("i,i", away, away)

    each_block(1, size, work)
    return np.asarray(partial.sum(axis=0))


def products(vectors: Sequence[Vector], point: Vector) -> Doubles:
    """<xᵢ, p> of every row, shape (rows,), in float64."""
    partial = np.zeros((len(blocks(1, point.size)), len(vectors)))

    def work(number: int, part: slice) -> None:
        other = point[part].astype(np.float64)
        for row, vector in enumerate(vectors):
            partial[number, row] = np.einsum("i,i", vector[part].astype(np.float64), other)

    each_block(1, point.size, work)
    return np.asarray(partial.sum(axis=0))


def combination(vectors: Sequence[Vector], coefficients: Doubles) -> Vector:
    """Σ cᵢxᵢ, shape (parameters,), summed up in float64; a row whose c is 0 is not looked at."""
    result = np.empty(vectors[0].size, np.float32)
    counted = [(vector, float(own)) for vector, own in zip(vectors, coefficients, strict=True) if own]

    def work(number: int, part: slice) -> None:
        total = np.zeros(part.stop - part.start)
        term = np.empty_like(total)
        for vector, own in counted:
            total += np.multiply(vector[part], own, out=term, dtype=np.float64)
        result[part] = total

    each_block(1, result.size, work)
    return result
