"""Data as the method sees them: rows that belong to clients, and rows that belong to nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from federated.errors import DataError, row

Rows = NDArray[np.int64]
"""Indices into a dataset."""

Card = Mapping[str, str | float]
"""Facts about a client, by name: words to choose it by, numbers to weigh it by."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Examples: ``x`` of shape (rows, *features) float32, ``y`` of shape (rows,), int32 or float32."""

    x: NDArray[np.float32]
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def sha256(self) -> str:
        """The digest of its rows, in their order."""
        hashed = hashlib.sha256(repr((self.x.shape, str(self.y.dtype))).encode())
        for part in (self.x, self.y):
            hashed.update(np.ascontiguousarray(part).tobytes())
        return hashed.hexdigest()

    def take(self, rows: Rows) -> Split:
        """The given rows, in the given order."""
        return Split(self.x[rows], self.y[rows])


def feature(place: int, names: tuple[str, ...]) -> str:
    """The feature at a ``place`` from 0: by its name, where features have names."""
    return f"feature {names[place]!r}" if names else f"feature {place} (counted from 0)"


def concatenate(splits: list[Split]) -> Split:
    """All rows, one split after the other."""
    return Split(np.concatenate([split.x for split in splits]), np.concatenate([split.y for split in splits]))


def by_key(keys: NDArray[np.str_], known: NDArray[np.str_]) -> dict[str, Rows]:
    """Where each of the ``known`` keys stands among ``keys``, in rising order; in one pass for ten thousand of them."""
    names = np.unique(known)
    codes = np.searchsorted(names, keys)
    ends = np.cumsum(np.bincount(codes, minlength=len(names)))
    groups = np.split(np.argsort(codes, kind="stable"), ends[:-1])
    return {str(name): group for name, group in zip(names, groups, strict=True)}


class Blanks(NamedTuple):
    """Features without a value, true in ``where``, of the features' shape; ``by`` is what will fill them.

    The features have 0 there until the training rows are known, so that no row's value depends on other rows.
    """

    where: NDArray[np.bool_]
    by: Literal["mean", "median"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a source yields, checked when it is built.

    ``labels`` names the classes of ``rows.y`` (0 … C-1), or is None for regression. ``keys`` is the natural
    client of each row, or None. ``origin`` says where the rows came from, for error messages. ``reserved`` is true
    for rows which the source itself sets aside for testing, or None. ``blanks`` are values still to be filled in, and
    ``cards`` what is known of clients, by key.
    ``features`` names the features, or is empty; ``remarks`` say what is legal and may not be meant, a line each.

    Raises:
        DataError: there are no rows, lengths differ, a value is not finite, or a label is out of range.
    """

    rows: Split
    labels: tuple[str, ...] | None
    origin: str
    keys: NDArray[np.str_] | None = None
    reserved: NDArray[np.bool_] | None = None
    blanks: Blanks | None = None
    cards: Mapping[str, Card] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_arrays()
        if len(self.rows) == 0:
            raise DataError(f"{self.origin}: there are no rows")
        if len(self.rows.x) != len(self.rows.y):
            raise DataError(f"{self.origin}: {len(self.rows.x)} rows of features but {len(self.rows.y)} targets")
        if self.features and self.rows.x.shape[1:] != (len(self.features),):
            raise DataError(f"{self.origin}: {len(self.features)} names of features of shape {self.rows.x.shape[1:]}")
        if self.keys is not None and len(self.keys) != len(self.rows):
            raise DataError(f"{self.origin}: {len(self.rows)} rows but {len(self.keys)} client keys")
        nameless = 0 if self.keys is None else int(np.count_nonzero(np.strings.strip(self.keys) == ""))
        if nameless:
            raise DataError(f"{self.origin}: {nameless} rows are of a client without a name; name it or leave them out")
        if self.reserved is not None and len(self.reserved) != len(self.rows):
            raise DataError(f"{self.origin}: {len(self.rows)} rows but {len(self.reserved)} marks of reserved rows")
        if not np.isfinite(self.rows.x).all():
            rows = np.flatnonzero(~np.isfinite(self.rows.x.reshape(len(self.rows), -1)).all(axis=1))
            raise DataError(
                f"{self.origin}: NaN or infinity in {len(rows)} rows, the first is {self._named(rows[0])}; "
                "fill or drop them"
            )
        self._check_targets()

    def numbers(self, seed: int) -> NDArray[np.float64]:
        """A number in [0, 1) for each row, shape (rows,), which follows from its values and the seed alone.

        Uniform over rows that differ, and the same for rows that are equal, whatever other rows there are: the first
        53 bits of keyed BLAKE2b (RFC 7693). A class counts by its name: its number changes when a class is added.
        """
        keyed = hashlib.blake2b(key=hashlib.sha256(f"{seed}/holdout".encode()).digest(), digest_size=8)
        named = None if self.labels is None else [label.encode() for label in self.labels]
        digests = bytearray()
        for x, y in zip(self.rows.x, self.rows.y, strict=True):
            hashed = keyed.copy()
            hashed.update((x + 0).tobytes())  # -0.0 equals 0.0
            hashed.update((y + 0).tobytes() if named is None else named[y])
            digests += hashed.digest()
        return np.asarray((np.frombuffer(digests, "<u8") >> 11) * 2.0**-53, np.float64)

    def _named(self, place: int) -> str:
        return row(place) if self.keys is None else f"{row(place)} of client {str(self.keys[place])!r}"

    def _check_arrays(self) -> None:
        x, y = self.rows.x, self.rows.y
        wanted = np.float32 if self.labels is None else np.int32
        if x.dtype != np.float32 or y.dtype != wanted:
            raise DataError(
                f"{self.origin}: expected x of float32 and y of {np.dtype(wanted)}, got {x.dtype} and {y.dtype}"
            )
        if x.ndim < 2 or 0 in x.shape[1:] or y.ndim != 1:
            raise DataError(
                f"{self.origin}: expected x of shape (rows, features) and y of shape (rows,), "
                f"got {x.shape} and {y.shape}"
            )

    def _check_targets(self) -> None:
        targets = self.rows.y
        if self.labels is None:
            wrong = np.flatnonzero(~np.isfinite(targets))
            if len(wrong):
                raise DataError(
                    f"{self.origin}: NaN or infinity among the targets of {len(wrong)} rows, the first is "
                    f"{self._named(wrong[0])}"
                )
        elif len(self.labels) < 2:
            raise DataError(f"{self.origin}: a classifier needs at least 2 classes, got {list(self.labels)}")
        else:
            wrong = np.flatnonzero((targets < 0) | (targets >= len(self.labels)))
            if len(wrong):
                raise DataError(
                    f"{self.origin}: class numbers must lie in 0 … {len(self.labels) - 1}, got {targets.min()} … "
                    f"{targets.max()}; the first is {self._named(wrong[0])}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """One party: the rows it trains on, rows of its own that it only tests on, and what is known of it."""

    name: str
    train: Split
    test: Split
    card: Card = field(default_factory=dict)
