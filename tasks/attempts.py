"""Who has been at a training, and what it came to."""

from __future__ import annotations

import contextlib

from tasks.round_files import own_names, round_of, stem
from tasks.store import DamagedError, Store

_ATTEMPTS, _RESULTS = "attempts", "results"


class Attempts:
    """The flow runs of one training, in the order in which they took it up."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def note(self, flow_run_id: str) -> list[str]:
        """Notes that a flow run is at it; gives the flow runs that were before.

        Raises:
            TrackingError: the store cannot be reached.
        """
        names, before = self._store.names(_ATTEMPTS), list[str]()
        for name in names:
            with contextlib.suppress(DamagedError):
                before.append(self._store.read(_ATTEMPTS, name).decode())
        self._store.write(_ATTEMPTS, stem(len(names)), ".txt", flow_run_id.encode())
        return [attempt for attempt in before if attempt != flow_run_id]


class Results:
    """What a training that is over has to tell. One that goes on after that tells something else at its next end."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def write(self, round: int, result: bytes) -> None:
        """The training is over after a round.

        Raises:
            TrackingError: the store refused.
        """
        written = self._store.write(_RESULTS, stem(round), ".json", result)
        for name in own_names(self._store, _RESULTS):
            if name != written:
                self._store.delete(_RESULTS, name)

    def read(self, last: int) -> bytes | None:
        """The result of a training that is over, and whose last round is ``last``.

        Raises:
            TrackingError: the store cannot be reached.
        """
        names = [name for name in own_names(self._store, _RESULTS) if round_of(name) == last]
        with contextlib.suppress(DamagedError):
            return self._store.read(_RESULTS, names[-1]) if names else None
        return None
