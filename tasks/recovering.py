"""What the checkpoints lack, from MLflow: its versions hold the same records and states."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from itertools import count

from tasks.journal import Journal
from tasks.store import DamagedError
from tasks.stored import Library
from tasks.tracking import patiently
from tasks.training import Training
from tasks.versions import RECORD, STATE, before_file
from tasks.watching import tell


def complete(training: Training, journal: Journal) -> None:
    """Gives the journal of a training that goes on the rounds that only MLflow has, and says so.

    Guarantees: a record is taken where it is signed by the training's own key and follows the one before it; a state,
    where it is the one that its record names.

    Raises:
        TrackingError: MLflow refused, or stayed away for too long; or the store refused.
    """
    if journal.is_new:
        return
    registered = _Registered(training.plan.name, journal.run_key, training.cancelled)
    taken = [*_take_records(journal, registered), *_take_state(journal, registered)]
    if taken:
        journal.look()
        first, last = min(taken), max(taken)
        tell(f"round {last} comes from MLflow" if first == last else f"rounds {first} to {last} come from MLflow")


class _Registered:
    """The rounds of a training that are versions. MLflow may be away for a while."""

    def __init__(self, name: str, run_key: str, cancelled: threading.Event) -> None:
        self._name, self._cancelled = name, cancelled
        self._library = patiently(Library, cancelled)
        self._versions = patiently(partial(self._library.of_training, name, run_key), cancelled)

    def file(self, round: int, path: str) -> bytes:
        """A file of a round's version; empty where there is none."""
        version = self._versions.get(round)
        return b"" if version is None else self._read(version, path)

    def record(self, round: int) -> bytes:
        """A round's record: its version's, or what the next version has of it; empty where there is none."""
        found = min((number for number in self._versions if number >= round), default=None)
        if found is None:
            return b""
        return self._read(self._versions[found], RECORD if found == round else before_file(round))

    def _read(self, version: str, path: str) -> bytes:
        return patiently(partial(self._library.version_file, self._name, version, path), self._cancelled)


def _take_records(journal: Journal, registered: _Registered) -> Iterator[int]:
    for number in count(journal.last + 1):
        if not journal.adopt(registered.record(number)):
            return
        yield number


def _take_state(journal: Journal, registered: _Registered) -> Iterator[int]:
    """The latest that can be had; without it, rounds are computed again, and keep their records."""
    for number in range(journal.last, 0, -1):
        if _is_whole(journal, number):
            return
        if journal.adopt_state(number, registered.file(number, STATE)):
            yield number
            return


def _is_whole(journal: Journal, number: int) -> bool:
    try:
        journal.state_bytes(number)
    except DamagedError:
        return False
    return True
