"""An append-only log in SQLite, every entry of it signed, and chained to the one before."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from federated.errors import InputError, TrainingError
from tasks.signing import ForgedError, Signer, Trusted, read_signed
from tasks.store import sha256

_WAIT = 120  # seconds for another process that writes
_TABLE = "CREATE TABLE IF NOT EXISTS entries (number INTEGER PRIMARY KEY, signed BLOB NOT NULL)"


class LedgerError(TrainingError):
    """The ledger was changed, or is asked for what it cannot do."""


class End(NamedTuple):
    """How many entries a log has, and the digest of the last."""

    entries: int
    head: str


def set_back(path: Path, seen: End) -> LedgerError:
    """That a log no longer has what somebody has seen of it."""
    return LedgerError(
        f"{path}: records of rounds have seen {seen.entries} entries of it, up to {seen.head[:16]}, and they "
        "are not there: it was removed or set back; restore the file from its backup"
    )


class SignedLog(ABC):
    """What several processes write and read, one after the other; a subclass makes sense of the entries.

    Guarantees: an entry is on disk before ``append`` returns. A changed, swapped or missing entry is found when the log
    is read; a missing end is by whoever has seen a later one.
    """

    def __init__(self, path: Path, signer: Signer, trusted: Trusted | None = None) -> None:
        self._path, self._signer = path, signer
        self._trusted = trusted or (signer.public,)
        self._digests: list[str] = []
        self._forget()

    @property
    def _entries(self) -> int:
        return len(self._digests)

    @property
    def _head(self) -> str:
        return self._digests[-1] if self._digests else ""

    @abstractmethod
    def _forget(self) -> None:
        """As if nothing had been read yet."""

    @abstractmethod
    def _take(self, number: int, said: dict[str, Any]) -> None:
        """What an entry changes."""

    @property
    def end(self) -> End:
        """How many entries were read or written here, and the digest of the last."""
        return End(self._entries, self._head)

    def require_end(self, seen: End) -> None:
        """What has had this end must have it still, and may have more.

        Raises:
            LedgerError: it has not.
        """
        self._read_on()
        if self._entries < seen.entries or self._digests[seen.entries - 1] != seen.head:
            raise set_back(self._path, seen)

    def _read_on(self) -> None:
        """What others wrote is read; who writes meanwhile does not wait for what is done with it afterwards."""
        if not self._is_there():
            return
        address = f"{self._path.absolute().as_uri()}?mode=rw"  # with ro, what a crash left half written stays
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_WAIT, isolation_level=None)) as database:
            with self._explained():
                database.execute("BEGIN")
                begun = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone()
            if begun:
                self._catch_up(database)

    def _is_there(self) -> bool:
        """Whether there is a file; what had one must have it still."""
        found = self._path.exists()
        if self._entries and not found:
            raise LedgerError(f"{self._path}: it is gone; restore the file from its backup")
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Nobody else writes meanwhile; what others wrote is read first. To close without a commit takes all back."""
        if not self._is_there():
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)) as database:
            with self._explained():
                database.execute("BEGIN IMMEDIATE")
                database.execute(_TABLE)
            self._catch_up(database)
            with self._all_or_forgotten():
                yield database
                database.execute("COMMIT")

    @contextlib.contextmanager
    def _all_or_forgotten(self) -> Iterator[None]:
        """What fails half read, or half written, is read again from the beginning."""
        before = self._entries
        try:
            yield
        except BaseException:
            if self._entries != before:
                self._digests = []
                self._forget()
            raise

    def _append(self, database: sqlite3.Connection, said: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        signed = self._signer.sign("ledger", {"number": self._entries, "previous": self._head, "at": at, **said})
        database.execute("INSERT INTO entries VALUES (?, ?)", (self._entries, signed))
        self._read(self._entries, signed)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LedgerError(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self._path}: expected a privacy ledger, it is none ({error})") from error

    def _catch_up(self, database: sqlite3.Connection) -> None:
        with self._explained():
            last = database.execute("SELECT max(number) FROM entries").fetchone()[0]  # to count them would read all
            found = database.execute(
                "SELECT number, signed FROM entries WHERE number >= ? ORDER BY number", (self._entries,)
            ).fetchall()
        if (-1 if last is None else last) < self._entries - 1:
            raise LedgerError(f"{self._path}: entries are missing from its end")
        with self._all_or_forgotten():
            for number, signed in found:
                self._read(number, signed if isinstance(signed, bytes) else str(signed).encode())

    def _read(self, number: int, signed: bytes) -> None:
        try:
            said = read_signed(signed, "ledger", self._trusted)
        except ForgedError as error:
            raise LedgerError(f"{self._path}: entry {number}: {error}") from error
        if (number, said["number"], said["previous"]) != (self._entries, self._entries, self._head):
            raise LedgerError(f"{self._path}: entry {number} does not follow the one before it")
        self._digests.append(sha256(signed))
        self._take(number, said)
