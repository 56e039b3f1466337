"""Clients' rows as tensors, kept from round to round: to pad and copy them costs as much as many steps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from numpy.typing import NDArray

from federated.data import Split

_REMEMBERED = 1024  # uses after which one that comes again counts as new


class _Resident(NamedTuple):
    """Tensors, and the rows they were made of: as long as these live, nobody else has their identity."""

    data: Split
    x: Any
    y: Any


class ResidentRows:
    """Rows that ``prepared`` has made ready, at most ``room`` bytes of them: those longest unused make way.

    Kept is what is used twice in a while: of ten thousand clients, few come again before long. What is larger than a
    quarter of the room is not kept. Rows are taken to stay as they are. Safe to call from several threads.
    """

    def __init__(self, prepared: Callable[[NDArray[Any]], NDArray[Any]], room: int = 2**28) -> None:
        self._prepared, self._room, self._taken = prepared, room, 0
        self._kept: OrderedDict[int, _Resident] = OrderedDict()
        self._used: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, data: Split) -> tuple[Any, Any]:
        """The tensors of x and y."""
        with self._lock:
            found = self._kept.get(id(data))
            if found is not None:
                self._kept.move_to_end(id(data))
        if found is None:
            x, y = (tf.convert_to_tensor(self._prepared(part)) for part in (data.x, data.y))
            found = _Resident(data, x, y)
            self._keep(found)
        return found.x, found.y

    def _keep(self, made: _Resident) -> None:
        with self._lock:
            if _bytes(made) > self._room // 4 or id(made.data) in self._kept or not self._comes_again(made.data):
                return
            self._kept[id(made.data)] = made
            self._taken += _bytes(made)
            while self._taken > self._room:
                self._taken -= _bytes(self._kept.popitem(last=False)[1])

    def _comes_again(self, data: Split) -> bool:
        """Whether it was used not long ago. Identities may be those of others that are gone: that does no harm."""
        known = id(data) in self._used
        self._used[id(data)] = None
        self._used.move_to_end(id(data))
        if len(self._used) > _REMEMBERED:
            self._used.popitem(last=False)
        return known


def _bytes(rows: _Resident) -> int:
    return sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in (rows.x, rows.y))
