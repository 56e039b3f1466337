"""Transforms that send codes of a few bits in place of numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from federated.component import Vector
from federated.transforms.transform import Layers, Makes, Transform
from federated.updates import Update

Codes = NDArray[np.uint8]

_CODES, _SCALES, _COUNT = "codes", "scales", "count"
_LARGEST = np.finfo(np.float32).max


class Quantise(Transform):
    """Stochastic uniform quantisation: codes of ``bits``, right on average (QSGD: Alistarh et al. 2017, section 3.1).

    Each ``block`` of numbers is divided by its L2 norm and rounded up or down, by chance, to 0 or one of
    2^(``bits`` - 1) - 1 levels of either sign. A block costs its codes and 4 bytes for the norm.
    """

    kind: Literal["quantise"] = "quantise"
    bits: int = Field(default=8, ge=2, le=8)
    block: int = Field(default=512, ge=1, description="numbers that share a norm")

    @property
    def makes(self) -> Makes:
        return "codes"

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        blocks, levels = _blocks(update.delta, self.block), 2 ** (self.bits - 1) - 1
        with np.errstate(over="ignore"):  # a norm that float32 has not is infinite, and tells
            norms = np.sqrt(np.einsum("ij,ij->i", blocks, blocks, dtype=np.float64)).astype(np.float32)
        shares = _over(blocks, norms[:, np.newaxis]) * np.float32(levels)
        codes = np.clip(_rounded(shares, rng) + levels, 0, 2 * levels).astype(np.uint8)
        return _coded(update, codes.ravel()[: update.delta.size], self.bits, norms)

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        levels = np.float32(2 ** (self.bits - 1) - 1)
        codes = _codes(update, self.bits, _count(update)).astype(np.float32)
        steps = np.asarray(update.extras[_SCALES] / levels, np.float32)
        return _decoded(update, _blocks(codes - levels, self.block) * steps[:, np.newaxis])


class Rotate(Transform):
    """A random rotation, then codes of ``bits`` between smallest and largest, right on average (Konečný et al. 2016).

    The rotation (Hadamard's matrix times random signs, by blocks of ``block`` numbers) makes entries alike in size,
    which is what makes so few bits enough. Both sides draw the same signs. A block costs its codes and 8 bytes.
    """

    kind: Literal["rotate"] = "rotate"
    bits: int = Field(default=1, ge=1, le=2)
    block: Annotated[int, Field(ge=2, le=2**20)] = 4096

    @field_validator("block")
    @classmethod
    def _power_of_two(cls, block: int) -> int:
        if block & (block - 1):
            raise ValueError(f"a block must be a power of 2, got {block}")
        return block

    @property
    def makes(self) -> Makes:
        return "codes"

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        blocks = _blocks(update.delta, self._width(update.delta.size))
        with np.errstate(invalid="ignore", over="ignore"):  # of what is not finite the scales tell
            rotated = _hadamard(blocks * _signs(rng, blocks))
            low, high, levels = rotated.min(axis=1), rotated.max(axis=1), 2**self.bits - 1
            spread = high - low
            shares = _over(rotated - low[:, np.newaxis], spread[:, np.newaxis]) * np.float32(levels)
        low, high = (np.where(np.isfinite(spread), scale, np.nan) for scale in (low, high))
        codes = np.clip(_rounded(shares, rng), 0, levels).astype(np.uint8)
        return _coded(update, codes, self.bits, np.stack([low, high], axis=1).ravel())

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        low, high = update.extras[_SCALES].reshape(-1, 2).T[:, :, np.newaxis]
        width = self._width(_count(update))
        codes = _codes(update, self.bits, len(low) * width).reshape(-1, width).astype(np.float32)
        signs = _signs(rng, codes)
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._turned_back(codes, low, high) * signs
        if not np.isfinite(found).all():  # scales that pass the screen, and sums that float32 has not
            wide = self._turned_back(codes.astype(np.float64), low.astype(np.float64), high.astype(np.float64))
            found = np.clip(wide, -_LARGEST, _LARGEST).astype(np.float32) * signs
        return _decoded(update, found)

    def _turned_back(self, codes: Vector, low: Vector, high: Vector) -> Vector:
        return _hadamard(codes * ((high - low) / np.float32(2**self.bits - 1)) + low)

    def _width(self, count: int) -> int:
        """No wider than the numbers need."""
        return min(self.block, 1 << max(count - 1, 0).bit_length())


class Sign(Transform):
    """One bit a number, its sign, and the mean size of all (Karimireddy et al. 2019, algorithm 1).

    With ``error_feedback`` a client keeps what that loses and adds it to its next update: without it, training may go
    the wrong way. A number that is 0 counts as positive.
    """

    kind: Literal["sign"] = "sign"
    error_feedback: bool = True

    @property
    def makes(self) -> Makes:
        return "codes"

    @property
    def feeds_back(self) -> bool:
        return self.error_feedback

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        size = np.mean(np.abs(update.delta), dtype=np.float64) if update.delta.size else 0.0
        return _coded(update, (update.delta >= 0).astype(np.uint8), 1, np.array([size], np.float32))

    def decode(self, update: Update, size: int, rng: np.random.Generator) -> Update:
        signs = _codes(update, 1, _count(update)).astype(np.float32) * np.float32(2) - np.float32(1)
        return _decoded(update, signs * update.extras[_SCALES])


def _blocks(vector: Vector, block: int) -> Vector:
    """The vector in rows of ``block``, the last filled up with zeros: shape (blocks, block)."""
    padded = np.zeros(-(-max(vector.size, 1) // block) * block, np.float32)
    padded[: vector.size] = vector
    return padded.reshape(-1, block)


def _signs(rng: np.random.Generator, like: Vector) -> Vector:
    """1 or -1 for every number, by chance."""
    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-like.size // 8)), np.uint8), count=like.size)
    return np.asarray(bits.astype(np.float32).reshape(like.shape) * np.float32(2) - np.float32(1))


def _over(blocks: Vector, scale: Vector) -> Vector:
    """Numbers by the scale of their block; 0 where that is 0, and where it is not finite: the scale tells."""
    usable = np.isfinite(scale) & (scale > 0)
    with np.errstate(invalid="ignore"):
        return np.where(usable, blocks / np.where(usable, scale, np.float32(1)), np.float32(0))


def _rounded(values: Vector, rng: np.random.Generator) -> Vector:
    """Rounded up with the probability of the fraction, else down."""
    return np.asarray(np.floor(values + rng.random(values.shape, np.float32)))


def _coded(update: Update, codes: Codes, bits: int, scales: Vector) -> Update:
    """The update with codes in place of its numbers, ``bits`` each and nothing between them."""
    packed = np.packbits(np.unpackbits(codes.reshape(-1, 1), axis=1)[:, 8 - bits :])
    count = np.array([update.delta.size], np.uint32)
    extras = {**update.extras, _CODES: packed, _SCALES: scales, _COUNT: count}
    return replace(update, delta=np.zeros(0, np.float32), extras=extras)


def _codes(update: Update, bits: int, count: int) -> Codes:
    """The first ``count`` codes of an update."""
    planes = np.unpackbits(update.extras[_CODES], count=count * bits).reshape(count, bits)
    return np.right_shift(np.packbits(planes, axis=1)[:, 0], 8 - bits, dtype=np.uint8)


def _count(update: Update) -> int:
    """How many numbers stand behind its codes."""
    return int(update.extras[_COUNT][0])


def _decoded(update: Update, values: NDArray[Any]) -> Update:
    """The update with numbers in place of its codes."""
    extras = {name: vector for name, vector in update.extras.items() if name not in (_CODES, _SCALES, _COUNT)}
    return replace(update, delta=values.ravel()[: _count(update)], extras=extras)


def _hadamard(blocks: Vector) -> Vector:
    """Every row times the normalised Hadamard matrix, its own inverse, in n log n steps (Fino, Algazi 1976)."""
    rows, width = blocks.shape
    half = 1
    while half < width:
        pairs = blocks.reshape(rows, -1, 2, half)
        blocks = np.stack([pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]], axis=2)
        half *= 2
    return np.asarray(blocks.reshape(rows, width) / np.float32(np.sqrt(width)))
