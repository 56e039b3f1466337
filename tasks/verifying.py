"""Whether a version is what its training registered: every file, every tag, and the rounds before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from safetensors import SafetensorError

from federated.errors import InputError, TrainingError
from federated.updates import digest
from tasks.history import history
from tasks.records import Committed
from tasks.signing import ForgedError, Trusted, read_signed, trusted_keys
from tasks.stored import Library, StoredVersion
from tasks.versions import BEFORE, PLACE, RECORD, SEAL, STATE, place, tags_of

_MLFLOWS_OWN = "registered_model_meta"  # it puts a note there when it loads from a folder

REMOVED = "weights_removed"
"""The tag of a version whose weights retention has removed."""

WEIGHTS = (STATE, "data/model.keras")
"""The files of a version that retention may remove."""


class Verified(NamedTuple):
    """What was looked at, what is wrong with it, and whether retention has removed its weights."""

    name: str
    version: str
    rounds: int
    faults: list[str]
    removed: bool

    @property
    def uri(self) -> str:
        """The version, whatever it was asked for by."""
        return f"{self.name}/{self.version}"


def verify(uri: str, trusted: Trusted) -> Verified:
    """Looks at a version and at the records of every round before it. ``trusted`` has the keys to trust.

    Guarantees: without the private key nobody can change the files, the record or the tags of a version, put
    another version in its place, or leave out a round before it, without a fault being found. Whoever has the key can.

    Raises:
        InputError: there is no such version.
        TrackingError: it cannot be read.
    """
    library = Library()
    with library.open(uri) as stored:
        return _looked_at(library, stored, trusted)[0]


class Sound(NamedTuple):
    """A verified version, and the records of its rounds as ``history`` gives them."""

    stored: StoredVersion
    records: list[dict[str, Any]]


@contextlib.contextmanager
def opened_sound(uri: str) -> Iterator[Sound]:
    """A version and its files, which have been verified: what is loaded from there is what was looked at.

    Raises:
        InputError: there is no such version, or retention has removed its weights.
        TrainingError: it is not what its training registered.
        TrackingError: it cannot be read.
    """
    with _opened(uri) as (found, sound):
        if found.removed:
            raise InputError(f"retention has removed the weights of {found.uri}; choose a version that has them")
        yield sound


def sound_records(uri: str) -> list[dict[str, Any]]:
    """The records of a version that has been verified, as ``history`` gives them. Its weights may have been removed.

    Raises:
        InputError: there is no such version.
        TrainingError: it is not what its training registered.
        TrackingError: it cannot be read.
    """
    with _opened(uri) as (_, sound):
        return sound.records


@contextlib.contextmanager
def _opened(uri: str) -> Iterator[tuple[Verified, Sound]]:
    library = Library()
    with library.open(uri) as stored:
        found, records = _looked_at(library, stored, trusted_keys())
        if found.faults:
            what = f"is not what its training registered: {found.faults[0]}"
            raise TrainingError(f"{found.uri} {what}; roundhouse verify {found.uri}")
        yield found, Sound(stored, records)


def _looked_at(library: Library, stored: StoredVersion, trusted: Trusted) -> tuple[Verified, list[dict[str, Any]]]:
    """What was found, and the records; no record where one of them is forged."""
    faults, records = list(_faults_of_seal(stored, trusted)), list[dict[str, Any]]()
    try:
        records = history(library, stored, trusted)
    except ForgedError as error:
        faults.append(str(error))
    else:
        faults += _faults_of_record(library, stored, records)
    removed = not stored.has_weights or REMOVED in stored.tags
    return Verified(stored.name, stored.version, max(len(records) - 1, 0), faults, removed), records


def _faults_of_seal(stored: StoredVersion, trusted: Trusted) -> Iterator[str]:
    try:
        seal = stored.seal(trusted)
    except ForgedError as error:
        yield f"{SEAL}: {error}"
        return
    here = {"model": stored.name, "run_id": stored.run_id, "model_id": stored.model_id}
    yield from (f"{name}: sealed as {seal[name]}, found {value}" for name, value in here.items() if seal[name] != value)
    yield from _faults_of_place(stored, trusted)
    if len(stored.places) > 1:
        yield f"loaded from one place, logged in another: {', '.join(sorted(stored.places))}"
    yield from _faults_of_files(stored, seal["files"])


def _faults_of_place(stored: StoredVersion, trusted: Trusted) -> Iterator[str]:
    try:
        said = read_signed(stored.tags.get(PLACE, "").encode(), "place", trusted)
    except ForgedError as error:
        yield f"tag {PLACE}: {error}"
        return
    if said != place(stored.name, stored.version, stored.model_id):
        yield f"it was registered as {said['model']} version {said['version']}"


def _faults_of_record(library: Library, stored: StoredVersion, told: list[dict[str, Any]]) -> Iterator[str]:
    """``told`` are the records of its round and of those before it."""
    record, start, signed = told[0], told[-1], stored.signed(RECORD)
    number = int(record["round"])
    versions = library.of_run(stored.name, stored.run_id)
    if versions.get(number) not in (None, stored.version):
        yield f"round {number} of its training is version {versions[number]}"
    before = number - 1 - len(list((stored.folder / BEFORE).glob("*")))
    parent = versions.get(before) if before > 0 else start["start"]
    tags = tags_of(Committed(number, record, signed), stored.run_id, parent)
    for name, value in tags.items():
        if stored.tags.get(name) != value:
            yield f"tag {name}: recorded as {value}, found {stored.tags.get(name)}"
    with contextlib.suppress(SafetensorError, KeyError):  # then the file has changed, which is said already
        if stored.has_weights and digest(stored.params) != record["weights_sha256"]:
            yield f"{STATE}: other weights than recorded"


def _faults_of_files(stored: StoredVersion, sealed: dict[str, str]) -> Iterator[str]:
    found = {path: sha256_ for path, sha256_ in stored.files.items() if path not in (SEAL, _MLFLOWS_OWN)}
    removed = WEIGHTS if REMOVED in stored.tags else ()
    yield from (f"{path}: missing" for path in sealed if path not in found and path not in removed)
    yield from (f"{path}: was not there when it was sealed" for path in found if path not in sealed)
    yield from (f"{path}: changed" for path in found if path in sealed and found[path] != sealed[path])
