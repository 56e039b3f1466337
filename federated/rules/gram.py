"""The inner products of a cohort's updates, from which all their distances follow."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from federated.component import Vector
from federated.rules.columns import Doubles, blocks, side_by_side

_TILE = 64  # rows and columns of a product: so small that no linear algebra library shares it out to threads
_GROUPS = 8  # of blocks, each with a sum of its own: fixed, so that the bits do not depend on the threads
_NARROWER = 4  # a block is copied twice, in float64
_SAME = 1e-14  # of the squared norms: closer than this, float32 vectors are equal but for rounding


def gram(vectors: Sequence[Vector]) -> Doubles:
    """<xᵢ, xⱼ>, shape (rows, rows), in float64: neither large updates overflow nor close ones become the same."""
    rows, parts = len(vectors), blocks(_NARROWER * len(vectors), vectors[0].size)
    sums = np.zeros((_GROUPS, rows, rows))

    def work(group: int) -> None:
        for part in parts[group::_GROUPS]:
            _add_products(sums[group], _folded(vectors, part))

    with side_by_side(_GROUPS) as each:
        each(work)
    above = np.triu(sums.sum(axis=0))
    return np.asarray(above + np.triu(above, 1).T)


def squared_pairwise(inner: Doubles) -> Doubles:
    """|xᵢ - xⱼ|² = <xᵢ, xᵢ> + <xⱼ, xⱼ> - 2<xᵢ, xⱼ>, shape (rows, rows); 0 where nothing but rounding is left."""
    norms = np.diag(inner)
    sums = norms[:, None] + norms[None, :]
    squared = sums - 2 * inner
    return np.where(squared > _SAME * sums, squared, 0.0)


def _folded(vectors: Sequence[Vector], part: slice) -> Doubles:
    """A block's columns in heaps of ``_TILE``, shape (heaps, rows, columns); the last is filled up with zeros."""
    width = part.stop - part.start
    row, folded = np.zeros(-(-width // _TILE) * _TILE), np.empty((-(-width // _TILE), len(vectors), _TILE))
    for place, vector in enumerate(vectors):
        row[:width] = vector[part]
        folded[:, place] = row.reshape(-1, _TILE)
    return folded


def _add_products(total: Doubles, left: Doubles) -> None:
    """Adds a block's products to ``total``, on and above its diagonal, tile by tile."""
    right = left.transpose(0, 2, 1).copy()
    tiles = _tiles(len(total))
    for place, high in enumerate(tiles):
        for wide in tiles[place:]:
            total[high, wide] += (left[:, high] @ right[:, :, wide]).sum(axis=0)


def _tiles(rows: int) -> list[slice]:
    """The rows in as few tiles as can be, each as large as the others but for one row."""
    ends: NDArray[np.intp] = np.linspace(0, rows, -(-rows // _TILE) + 1).astype(np.intp)
    return [slice(start, end) for start, end in pairwise(ends)]
