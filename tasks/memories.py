"""What clients keep from round to round, on disk beside the states of a simulation; never in MLflow.

::

    memories/000007-CLIENT-SHA256.safetensors          CLIENT is the start of the digest of its name

A file for every client and round in which it learnt something; the round's record names its digest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load, save

from federated.errors import TrackingError
from federated.rounds import Memories
from tasks.records import Committed
from tasks.round_files import stem
from tasks.store import Store, sha256

_FOLDER, _ENDING = "memories", ".safetensors"


class _Place(NamedTuple):
    """Where a client's memory lies: the round in which it was learnt, and the digest of the file."""

    round: int
    client: str
    sha256: str

    @property
    def stem(self) -> str:
        return f"{stem(self.round)}-{sha256(self.client.encode())[:16]}"

    @property
    def name(self) -> str:
        return f"{self.stem}-{self.sha256}{_ENDING}"


class MemoryFiles:
    """The memories of all clients after any round whose state is kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unwritten: dict[str, tuple[_Place, bytes]] = {}
        self._written: set[str] | None = None

    def learn(self, round: int, learnt: Memories) -> dict[str, str]:
        """Takes up what clients keep of a round; gives the digests that its record names."""
        for client, memory in learnt.items():
            content = save({name: np.ascontiguousarray(vector) for name, vector in memory.items()})
            self._unwritten[client] = _Place(round, client, sha256(content)), content
        return {client: self._unwritten[client][0].sha256 for client in sorted(learnt)}

    def write(self) -> None:
        """Writes what was taken up: of every client the latest.

        Raises:
            TrackingError: the store refused.
        """
        if self._unwritten:
            contents = {place.stem: content for place, content in self._unwritten.values()}
            written = self._store.write_all(_FOLDER, _ENDING, contents)
            self._names().update(written)
            self._unwritten.clear()

    def read(self, records: Iterable[Committed]) -> Memories:
        """The memories after the last of ``records``, which begin with the start.

        Raises:
            DamagedError: one is gone, or not what its record says.
        """
        latest = _latest(records)
        return {client: load(self._store.read(_FOLDER, place.name)) for client, place in latest.items()}

    def prune(self, before: Iterable[Committed], after: Iterable[Committed]) -> None:
        """Removes what no state needs, but for what cannot be removed now.

        ``before`` are the records up to the oldest state, and ``after`` those behind it.
        """
        if not self._names():
            return
        needed = {place.name for place in _latest(before).values()} | {place.name for place in _places(after)}
        for name in self._names() - needed:
            with contextlib.suppress(TrackingError):
                self._store.delete(_FOLDER, name)
                self._names().discard(name)

    def _names(self) -> set[str]:
        if self._written is None:
            self._written = set(self._store.names(_FOLDER))
        return self._written


def _places(records: Iterable[Committed]) -> Iterable[_Place]:
    for committed in records:
        for client, digest in committed.record.get("memories", {}).items():
            yield _Place(committed.round, client, digest)


def _latest(records: Iterable[Committed]) -> dict[str, _Place]:
    return {place.client: place for place in _places(records)}
