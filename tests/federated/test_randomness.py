"""Randomness is a function of seed, round, purpose and client, and of each of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from federated.randomness import derived_key, generator, keyed_bits, normals, secret_normals, secret_uniforms


def test_the_same_four_names_give_the_same_stream() -> None:
    first, again = (generator(1, 2, "local", "a").random(5) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_streams_differ_by_seed_by_round_by_purpose_and_by_client() -> None:
    streams = {
        (seed, turn, purpose, client): generator(seed, turn, purpose, client).random()
        for seed in (0, 1, 11)
        for turn in (0, 1, 11)
        for purpose in ("local", "select", "encode-0", "encode-1")
        for client in ("", "a", "b", "a/b")
    }
    assert len(set(streams.values())) == len(streams) == 144


def test_numpys_global_randomness_is_neither_used_nor_moved() -> None:
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    generator(0, 0, "local", "a").normal(size=100)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_stream_is_the_one_that_past_runs_used() -> None:
    drawn = generator(7, 3, "local", "client-1").integers(0, 1000, size=4)
    assert drawn.tolist() == [322, 867, 627, 233]


@pytest.mark.parametrize("draw", [secret_normals, lambda size: normals(keyed_bits(bytes(32)), size)])
def test_normal_numbers_are_normal(draw) -> None:
    for size in (0, 1, 2, 7):
        assert draw(size).shape == (size,)
    drawn = draw(400_001)
    assert stats.kstest(drawn, "norm").pvalue > 1e-6
    for lag in (1, 10_000, 200_000):
        assert abs(np.corrcoef(drawn[:200_000], drawn[lag : lag + 200_000])[0, 1]) < 0.015
    far = stats.binomtest(int(np.sum(np.abs(drawn) > 3)), drawn.size, 2 * stats.norm.sf(3))
    assert far.pvalue > 1e-6


@pytest.mark.parametrize("bits", [2**63, 2**63 - 1])
def test_points_next_to_the_middle_of_the_circle_give_finite_numbers(bits: int) -> None:
    drawn = normals(lambda count: np.full(count, bits, np.uint64), 8)
    assert np.isfinite(drawn).all()
    assert (np.abs(drawn) > 8).all()


def test_secret_numbers_never_come_twice_and_those_of_a_key_always() -> None:
    assert len({float(secret_normals(1)[0]) for _ in range(50)}) == 50
    assert len({float(secret_uniforms(1)[0]) for _ in range(50)}) == 50
    key, other = derived_key(bytes(32), "a"), derived_key(bytes(32), "b")
    np.testing.assert_array_equal(normals(keyed_bits(key), 9), normals(keyed_bits(key), 9))
    assert (normals(keyed_bits(key), 9) != normals(keyed_bits(other), 9)).all()
    assert derived_key(bytes(32), "a") != derived_key(bytes([1] * 32), "a")


def test_bits_of_a_key_are_those_of_the_standard() -> None:
    """AES-256 of the block of zeros, with the key of zeros (FIPS 197 implementations' known answer)."""
    assert keyed_bits(bytes(32))(2).tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    together, apart = keyed_bits(bytes(32))(7), keyed_bits(bytes(32))
    np.testing.assert_array_equal(together, np.concatenate([apart(3), apart(4)]))
