"""States as plain JSON and arrays, and back."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import pytest

from federated.packing import pack, unpack


class Moments(NamedTuple):
    first: np.ndarray
    steps: int


STATES: list[Any] = [
    None,
    3,
    0.1,
    "text",
    True,
    (),
    [],
    {},
    (1, (2.5, None)),
    [1, [2]],
    {"a": {"b": 1}, "array": 2},
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.float64(0.1),
    np.zeros(0, np.float32),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    Moments(np.ones(3), 4),
    (Moments(np.ones(2), 1), {"client": Moments(np.zeros(1), 2)}),
    float("inf"),
]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, (np.ndarray, np.generic)):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (tuple, list)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("state", STATES, ids=repr)
def test_what_is_unpacked_is_what_was_packed(state: Any) -> None:
    packed, arrays = pack(state)
    assert same(unpack(json.loads(json.dumps(packed)), arrays, like=state), state)


def test_every_array_has_a_name_of_its_own() -> None:
    _, arrays = pack({"a": np.zeros(1), "b": [np.ones(1), np.ones(1)], "c": Moments(np.ones(1), 1)})
    assert sorted(arrays) == ["state.a", "state.b.0", "state.b.1", "state.c.first"]


def test_a_dict_may_have_grown() -> None:
    packed, arrays = pack(({"new": np.ones(1)}, 1))
    assert same(unpack(packed, arrays, like=({}, 0)), ({"new": np.ones(1)}, 1))


@pytest.mark.parametrize("state", [object(), {1: 2}, {"a": {3}}], ids=["object", "number for a key", "set"])
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(TypeError, match="a state holds"):
        pack(state)


def test_a_named_tuple_of_another_length_is_refused() -> None:
    packed, arrays = pack((1, 2, 3))
    with pytest.raises(ValueError, match="expected first, steps, got 3 values"):
        unpack(packed, arrays, like=Moments(np.ones(1), 1))
