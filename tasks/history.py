"""The records of a version's rounds, back to the start of its training."""

from __future__ import annotations

from typing import Any, NamedTuple

from tasks.signing import ForgedError, Trusted, read_signed
from tasks.store import sha256
from tasks.stored import Library, StoredVersion
from tasks.tracking import START
from tasks.versions import RECORD, before_file


def history(library: Library, stored: StoredVersion, trusted: Trusted) -> list[dict[str, Any]]:
    """The record of the version's round, of the round before it, and so on; the last is that of the start.

    Each record names the digest of the one before it, as in a hash chain.

    Raises:
        ForgedError: a record is missing, was changed or replaced, or is signed by a key that is not ``trusted``.
        TrackingError: MLflow cannot be read.
    """
    versions = library.of_run(stored.name, stored.run_id)
    records = [_read(stored.signed(RECORD), trusted, "its record")]
    after = _Place(stored.version, int(records[0]["round"]))
    for number in range(after.round - 1, -1, -1):
        if number in versions:
            after = _Place(versions[number], number)
        signed = _signed(library, stored, after, number)
        if sha256(signed) != records[-1]["previous"]:
            raise ForgedError(f"round {number}: the record is not the one that round {number + 1} names")
        records.append(_read(signed, trusted, f"round {number}"))
    return records


class _Place(NamedTuple):
    """The version that has a record: that of its round, or the first after it."""

    version: str
    round: int

    def path(self, number: int) -> str:
        """The record's file in it."""
        return RECORD if number == self.round else before_file(number)


def _read(signed: bytes, trusted: Trusted, which: str) -> dict[str, Any]:
    try:
        return read_signed(signed, "record", trusted)
    except ForgedError as error:
        raise ForgedError(f"{which}: {error}") from error


def _signed(library: Library, stored: StoredVersion, place: _Place, number: int) -> bytes:
    if number == 0:
        return library.run_file(stored.run_id, START)
    path = place.path(number)
    if place.version == stored.version:
        return stored.signed(path)
    return library.version_file(stored.name, place.version, path)
