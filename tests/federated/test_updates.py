"""The message that a client sends up, its norm and its identity."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from federated.updates import digest, l2_norm
from tests.fakes import update


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_update_with_one_wrong_number_is_not_finite(wrong) -> None:
    assert update("a", [1.0, 2.0]).finite
    assert not update("a", [1.0, wrong]).finite
    assert not update("a", [1.0, 2.0], weight=wrong).finite


def test_an_update_with_a_wrong_number_among_its_extras_is_not_finite() -> None:
    extras = {"control": np.array([np.nan], np.float32)}
    assert not replace(update("a", [1.0]), extras=extras).finite


def test_an_update_counts_the_bytes_of_all_its_vectors() -> None:
    extras = {"control": np.zeros(3, np.float32)}
    assert replace(update("a", np.zeros(10)), extras=extras).nbytes == 52


def test_the_norm_is_that_of_float64() -> None:
    vector = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    assert l2_norm(vector) == pytest.approx(np.linalg.norm(vector.astype(np.float64)), rel=1e-14)


@pytest.mark.parametrize("size", [1e-30, 3e38])
def test_the_norm_neither_overflows_nor_underflows(size) -> None:
    vector = np.full(4, size, np.float32)
    assert l2_norm(vector) == pytest.approx(2 * float(np.float32(size)), rel=1e-12)


def test_a_digest_is_that_of_the_little_endian_bytes() -> None:
    expected = hashlib.sha256(struct.pack("<3f", 1.0, -2.5, 0.0)).hexdigest()
    assert digest(np.array([1.0, -2.5, 0.0], np.float32)) == expected
    assert digest(np.array([1.0, -2.5, 0.0], ">f4")) == expected
