"""Any state as plain JSON and named arrays, and back. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
"""Arrays by the path at which they lie in a state."""

_PLAIN = (bool, int, float, str, type(None))


def pack(state: Any) -> tuple[Any, Arrays]:
    """``state`` as a JSON value, with its arrays beside it.

    A state is made of arrays, numbers, text, None, tuples (named ones too), lists, and dicts with text for keys.

    Raises:
        TypeError: something else is in it.
    """
    arrays = Arrays()
    return _pack(state, "state", arrays), arrays


def unpack(packed: Any, arrays: Arrays, like: Any) -> Any:
    """What was packed. ``like`` is a state of the same kind: named tuples come back as they are there.

    Raises:
        ValueError: it does not fit ``like``.
    """
    return _unpack(packed, arrays, like, "state")


def _pack(value: Any, path: str, arrays: Arrays) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        arrays[path] = np.ascontiguousarray(value).reshape(np.shape(value))
        return {"array": path}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        places = getattr(value, "_fields", range(len(value)))
        return {kind: [_pack(item, f"{path}.{place}", arrays) for place, item in zip(places, value, strict=True)]}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _pack(item, f"{path}.{key}", arrays) for key, item in value.items()}}
    raise TypeError(
        f"{path}: a state holds arrays, numbers, text, tuples, lists and dicts by text, got {type(value).__name__}"
    )


def _unpack(packed: Any, arrays: Arrays, like: Any, path: str) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        known = like if isinstance(like, dict) else {}
        return {key: _unpack(item, arrays, known.get(key), f"{path}.{key}") for key, item in content.items()}
    known_items = like if isinstance(like, (tuple, list)) else ()
    items = [
        _unpack(item, arrays, known_items[position] if position < len(known_items) else None, f"{path}.{position}")
        for position, item in enumerate(content)
    ]
    return _named(items, like, path) if kind == "tuple" else items


def _named(items: Sequence[Any], like: Any, path: str) -> tuple[Any, ...]:
    fields = getattr(type(like), "_fields", None)
    if fields is None:
        return tuple(items)
    least = len(fields) - len(getattr(like, "_field_defaults", ()))
    if not least <= len(items) <= len(fields):
        raise ValueError(f"{path}: expected {', '.join(fields)}, got {len(items)} values")
    return type(like)(*items)  # type: ignore[no-any-return]
