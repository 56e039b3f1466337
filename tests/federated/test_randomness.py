"""Randomness is a function of seed, round, purpose and client, and of each of them."""

from __future__ import annotations

import numpy as np

from federated.randomness import generator


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
