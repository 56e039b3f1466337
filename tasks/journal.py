"""A training's rounds on disk: each is committed once, and a training that died goes on after the last of them.

::

    ROUNDHOUSE_CHECKPOINTS/PLAN/RUN-KEY/records/000007-SHA256.json          signed; kept
                                       /states/000007-SHA256.safetensors   the last few, and those not yet registered

A round is committed by its record, which is written after its state and names it. Rounds may be committed together,
as a block: then the state of the last is written, and after it the record of each.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from safetensors.numpy import load, save

from federated.errors import PlanError, TrackingError, TrainingError
from federated.packing import pack, unpack
from federated.rounds import ServerState
from federated.updates import digest
from tasks.identity import Identity, differences
from tasks.records import Committed, chained
from tasks.signing import ForgedError, Signer, read_signed
from tasks.store import DamagedError, Store, sha256

_NAME = re.compile(r"\d{6,}-[0-9a-f]{64}\.")
_RECORDS, _STATES, _RESULTS, _ATTEMPTS = "records", "states", "results", "attempts"


class Journal:
    """The rounds of the training ``run_key`` of a plan.

    Raises:
        TrackingError: the store cannot be reached.
    """

    def __init__(self, url: str, plan: str, run_key: str, signer: Signer) -> None:
        self.run_key = run_key
        self.signer = signer
        self._store = Store(f"{url}{'' if url.endswith('/') else '/'}{plan}/{run_key}")
        self.look()

    def look(self) -> None:
        """Reads what is there."""
        self.damaged: list[str] = []
        self._records, unfit = chained(self._read_records(), self.run_key)
        self.damaged += [
            f"{_stem(one.round)}-{one.sha256}.json: does not follow the record of the round before" for one in unfit
        ]
        self._staged: list[Committed] = []
        self._states = {_round(name): name for name in self._names(_STATES)}
        self._head = -1

    @property
    def is_new(self) -> bool:
        """Whether nothing has been committed, damaged or not."""
        return not self._records and not self.damaged

    @property
    def last(self) -> int:
        """The last round that has a record; -1 where not even the start has."""
        return len(self._records) - 1

    @property
    def committed(self) -> list[Committed]:
        """The rounds so far, round 0, the start, included."""
        return [self._records[number] for number in range(self._head + 1)]

    def resume(self, like: ServerState) -> ServerState:
        """The state after the last round that is whole; what is damaged is listed in ``damaged``.

        Raises:
            TrainingError: not even the start can be read.
            TrackingError: the store cannot be reached.
        """
        for number in range(self.last, -1, -1):
            try:
                state = self.state(number, like)
            except DamagedError as error:
                if not self.is_interim(number):
                    self.damaged.append(str(error))
                continue
            self._head = number
            return state
        raise self._nothing_whole()

    def state(self, round: int, like: ServerState) -> ServerState:
        """The state after a round.

        Raises:
            DamagedError: it is gone or not what the record says.
        """
        arrays = load(self.state_bytes(round))
        packed = self._records[round].record["state"]
        return unpack(packed, arrays, like)  # type: ignore[no-any-return]

    def state_bytes(self, round: int) -> bytes:
        """The state after a round, as safetensors.

        Raises:
            DamagedError: it is gone or not what the record says.
        """
        return self._store.read(_STATES, self._state_name(round))

    def is_interim(self, round: int) -> bool:
        """Whether a recorded round was inside a block and has no state: it is no checkpoint and no version."""
        return self._records[round].interim and round not in self._states

    def recorded(self, round: int) -> Committed | None:
        """The round's record; None where it has none yet."""
        return self._records.get(round)

    def commit(self, state: ServerState, said: dict[str, Any]) -> Committed:
        """Makes ``state`` the latest, after the rounds that are staged. A round recorded before keeps its record.

        Raises:
            TrainingError: the round was recorded before with another state.
            TrackingError: the store refused.
        """
        content, stored = _packed(state)
        known = self._known(state, stored["state_sha256"])
        self._write_state(state.round, content, stored["state_sha256"])
        if self._staged:
            signed = {_stem(one.round): one.signed for one in self._staged}
            self._replace(self._store.write_all(_RECORDS, ".json", signed))
            self._staged.clear()
        self._records[state.round] = known or self._write_record(state, said | stored)
        self._head = state.round
        return self._records[state.round]

    def stage(self, state: ServerState, said: dict[str, Any]) -> Committed:
        """Records an interim round, whose state is not kept; the next ``commit`` writes the record.

        Raises:
            TrainingError: the round was recorded before with another state.
            TrackingError: the store refused.
        """
        content, stored = _packed(state)
        known = self._known(state, stored["state_sha256"])
        if known is None:
            known = self._records[state.round] = self._record(state, {"interim": True, **said, **stored})
            self._staged.append(known)
        elif not known.interim:  # it is a checkpoint, and mended
            self._write_state(state.round, content, stored["state_sha256"])
        return known

    def _known(self, state: ServerState, state_sha256: str) -> Committed | None:
        """The record of a round that was recorded before."""
        known = self._records.get(state.round)
        if known is not None and known.record["state_sha256"] != state_sha256:
            raise TrainingError(
                f"round {state.round}: computed again it has other weights than recorded; "
                f"the code or the data of run key {self.run_key} have changed: take another key"
            )
        return known

    def adopt(self, signed: bytes) -> bool:
        """Takes the record of the round after the last from elsewhere; false where it is not that."""
        before = self._records.get(self.last)
        with contextlib.suppress(ForgedError):
            found = Committed(self.last + 1, read_signed(signed, "record", (self.signer.public,)), signed)
            if found.follows(before and before.sha256, self.run_key):
                self._keep_record(found.round, signed)
                self._records[found.round] = found
                return True
        return False

    def adopt_state(self, round: int, content: bytes) -> bool:
        """Takes the state after a recorded round from elsewhere; false where it is not that."""
        expected = self._records[round].record["state_sha256"]
        if sha256(content) != expected:
            return False
        self._write_state(round, content, expected)
        return True

    def prune(self, keep: int, registered: int) -> None:
        """Removes all but the ``keep`` latest states that are registered; the start's stays, and what cannot go now."""
        done = [number for number in sorted(self._states) if 0 < number <= self._head]
        for number in done[:-keep]:
            if number <= registered:
                with contextlib.suppress(TrackingError):
                    self._store.delete(_STATES, self._states[number])
                    del self._states[number]

    def finish(self, result: bytes) -> None:
        """The training is over, with this result.

        Raises:
            TrackingError: the store refused.
        """
        written = self._store.write(_RESULTS, _stem(self._head), ".json", result)
        for name in self._names(_RESULTS):
            if name != written:
                self._store.delete(_RESULTS, name)

    def finished(self) -> bytes | None:
        """The result of a training that is over.

        Raises:
            TrackingError: the store cannot be reached.
        """
        last = max(self._records, default=-1)
        names = [name for name in self._names(_RESULTS) if _round(name) == last]
        with contextlib.suppress(DamagedError):
            return self._store.read(_RESULTS, names[-1]) if names else None
        return None

    def note_attempt(self, flow_run_id: str) -> list[str]:
        """Notes that a flow run is at it; gives the flow runs that were before.

        Raises:
            TrackingError: the store cannot be reached.
        """
        names, before = self._store.names(_ATTEMPTS), list[str]()
        for name in names:
            with contextlib.suppress(DamagedError):
                before.append(self._store.read(_ATTEMPTS, name).decode())
        self._store.write(_ATTEMPTS, _stem(len(names)), ".txt", flow_run_id.encode())
        return [attempt for attempt in before if attempt != flow_run_id]

    def check_identity(self, now: Identity, accept: bool) -> list[str]:
        """What has changed since the training last ran.

        Raises:
            PlanError: something has, and ``accept`` is false.
        """
        told = [number for number, found in self._records.items() if "identity" in found.record]
        if not told:
            raise self._nothing_whole()
        changes = differences(self._records[max(told)].record["identity"], now)
        if changes and not accept:
            heading = f"run key {self.run_key} was begun differently; --accept-change goes on all the same:"
            raise PlanError("\n".join([heading, *changes]))
        return changes

    def _names(self, folder: str) -> list[str]:
        """Its files, but for those of somebody else."""
        return [name for name in self._store.names(folder) if _NAME.match(name)]

    def _nothing_whole(self) -> TrainingError:
        return TrainingError(f"run key {self.run_key}: no checkpoint in {self._store.url} is whole; take another key")

    def _read_records(self) -> Iterable[Committed]:
        for name in self._names(_RECORDS):
            try:
                signed = self._store.read(_RECORDS, name)
                yield Committed(_round(name), read_signed(signed, "record", (self.signer.public,)), signed)
            except (DamagedError, ForgedError) as error:
                self.damaged.append(f"{name}: {error}")

    def _write_record(self, state: ServerState, said: dict[str, Any]) -> Committed:
        self._keep_record(state.round, (made := self._record(state, said)).signed)
        return made

    def _record(self, state: ServerState, said: dict[str, Any]) -> Committed:
        before = self._records.get(state.round - 1)
        record = {
            "round": state.round,
            "run_key": self.run_key,
            "weights_sha256": digest(state.params),
            "previous": None if before is None else before.sha256,
            **said,
        }
        return Committed(state.round, record, self.signer.sign("record", record))

    def _keep_record(self, round: int, signed: bytes) -> None:
        self._replace([self._store.write(_RECORDS, _stem(round), ".json", signed)])

    def _replace(self, written: list[str]) -> None:
        """Removes other records of the rounds that are written: some may be damaged."""
        rounds = {_round(name) for name in written}
        for name in self._names(_RECORDS) if self.damaged else ():
            if _round(name) in rounds and name not in written:
                self._store.delete(_RECORDS, name)

    def _write_state(self, round: int, content: bytes, digest: str) -> None:
        self._states[round] = self._store.write(_STATES, _stem(round), ".safetensors", content, digest)

    def _state_name(self, round: int) -> str:
        return f"{_stem(round)}-{self._records[round].record['state_sha256']}.safetensors"


def _packed(state: ServerState) -> tuple[bytes, dict[str, Any]]:
    """A state as safetensors, and what its record says of it."""
    packed, arrays = pack(state)
    content = save(arrays)
    return content, {"state": packed, "state_sha256": sha256(content)}


def _stem(round: int) -> str:
    return f"{round:06d}"


def _round(name: str) -> int:
    return int(name.partition("-")[0])
