"""Rows that stay: the same tensors, for as long as there is room."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from federated.data import Split
from models.local_loop import padded
from models.resident_rows import ResidentRows
from tests.models.samples import valued

ROW = 4 * (3 + 1)  # bytes: three features and a target


class Counting:
    """Makes rows ready, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.times += 1
        return rows


def twice(resident: ResidentRows, *clients: Split) -> None:
    for data in clients:
        resident.of(data)
        resident.of(data)


def test_rows_that_come_again_are_kept():
    prepared, data = Counting(), valued(5, 3)
    resident = ResidentRows(prepared)
    once, first, again = resident.of(data), resident.of(data), resident.of(data)
    assert prepared.times == 2 * 2  # x and y
    assert once[0] is not first[0]
    assert first[0] is again[0]
    np.testing.assert_array_equal(first[0].numpy(), data.x)
    np.testing.assert_array_equal(first[1].numpy(), data.y)


def test_rows_that_are_equal_but_not_the_same_are_kept_apart():
    resident, one, other = ResidentRows(np.asarray), valued(5, 3), valued(5, 3)
    assert resident.of(one)[0] is not resident.of(other)[0]


def test_what_was_unused_the_longest_makes_way():
    prepared, clients = Counting(), [valued(10, 3, seed) for seed in range(6)]
    resident = ResidentRows(prepared, room=4 * 10 * ROW)
    twice(resident, *clients[:4])
    resident.of(clients[0])
    twice(resident, clients[4])  # takes the place of the second
    before = prepared.times
    for data in (clients[0], clients[2], clients[3], clients[4]):
        resident.of(data)
    assert prepared.times == before
    resident.of(clients[1])
    assert prepared.times == before + 2


def test_what_is_too_large_is_not_kept_and_pushes_nobody_out():
    prepared, small, large = Counting(), valued(2, 3), valued(60, 3)
    resident = ResidentRows(prepared, room=100 * ROW)
    twice(resident, small, large, large, small)
    assert prepared.times == 2 * (2 + 4)


def test_of_many_clients_that_hardly_come_again_next_to_nothing_is_kept():
    resident, clients = ResidentRows(np.asarray), [valued(1, 3, seed) for seed in range(3000)]
    for data in clients * 2:
        resident.of(data)
    assert len(resident._kept) == 0


def test_memory_of_rows_that_nobody_has_any_more_is_not_mistaken_for_theirs():
    """Identities of objects come again once they are gone: as long as rows are kept, theirs does not."""
    resident = ResidentRows(np.asarray)
    for number in range(200):
        data = Split(np.full((3, 1), number, np.float32), np.zeros(3, np.float32))
        assert float(resident.of(data)[0][0, 0]) == number


def test_threads_may_ask_at_the_same_time():
    clients = [valued(10, 3, seed) for seed in range(8)]
    resident = ResidentRows(padded, room=3 * 12 * ROW * 4 // 3)
    with ThreadPoolExecutor(8) as threads:
        for data, (x, _) in zip(clients * 50, threads.map(resident.of, clients * 50), strict=True):
            np.testing.assert_array_equal(x.numpy()[:10], data.x)
            assert x.shape == (12, 3)
