"""A training's rounds on disk: each is committed once, and a training that died goes on after the last of them.

::

    ROUNDHOUSE_CHECKPOINTS/PLAN/RUN-KEY/records/000007-SHA256.json          signed; kept
                                       /states/000007-SHA256.safetensors   the last few, and those not yet registered
                                       /memories/…                         what clients keep, see tasks/memories.py

A round is committed by its record, which is written after its state and names it. Rounds may be committed together,
as a block: then the state of the last is written, and after it the record of each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from safetensors.numpy import load, save

from federated.errors import PlanError, TrackingError, TrainingError
from federated.packing import pack, unpack
from federated.rounds import Memories, ServerState
from federated.updates import digest
from tasks.attempts import Attempts, Results
from tasks.identity import Identity, differences
from tasks.memories import MemoryFiles
from tasks.records import Committed, chained
from tasks.round_files import own_names, round_of, stem
from tasks.signing import ForgedError, Signer, read_signed
from tasks.store import DamagedError, Store, sha256

_DIGESTS = ("state_sha256", "memories")
_RECORDS, _STATES = "records", "states"


class Journal:
    """The rounds of the training ``run_key`` of a plan.

    Raises:
        TrackingError: the store cannot be reached.
    """

    def __init__(self, url: str, plan: str, run_key: str, signer: Signer) -> None:
        self.run_key = run_key
        self.signer = signer
        self._store = Store(f"{url}{'' if url.endswith('/') else '/'}{plan}/{run_key}")
        self.attempts, self._results = Attempts(self._store), Results(self._store)
        self.look()

    def look(self) -> None:
        """Reads what is there."""
        self.damaged: list[str] = []
        self._records, unfit = chained(self._read_records(), self.run_key)
        self.damaged += [
            f"{stem(one.round)}-{one.sha256}.json: does not follow the record of the round before" for one in unfit
        ]
        self._staged: list[Committed] = []
        self._states = {round_of(name): name for name in own_names(self._store, _STATES)}
        self._memories = MemoryFiles(self._store)
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
        return self._up_to(self._head)

    @property
    def recorded_so_far(self) -> list[dict[str, Any]]:
        """What every round's record says, also of rounds that are computed again."""
        return [committed.record for committed in self._up_to(self.last)]

    def resume(self, like: ServerState) -> ServerState:
        """The state after the last round that is whole; what is damaged is listed in ``damaged``.

        Raises:
            TrainingError: not even the start can be read.
            TrackingError: the store cannot be reached.
        """
        for number in range(self.last, -1, -1):
            try:
                state = self.state(number, like)
                self.memories(number)
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

    def memories(self, round: int) -> Memories:
        """What clients kept after a round.

        Raises:
            DamagedError: a part of it is gone or not what the records say.
        """
        return self._memories.read(self._up_to(round))

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

    def commit(self, state: ServerState, said: dict[str, Any], learnt: Memories | None = None) -> Committed:
        """Makes ``state`` the latest, after the rounds that are staged. A round recorded before keeps its record.

        ``learnt`` is what clients keep of the round.

        Raises:
            TrainingError: the round was recorded before with another state.
            TrackingError: the store refused.
        """
        content, stored = self._packed(state, learnt)
        known = self._known(state, stored)
        self._write_state(state.round, content, stored["state_sha256"])
        self._memories.write()
        if self._staged:
            signed = {stem(one.round): one.signed for one in self._staged}
            self._replace(self._store.write_all(_RECORDS, ".json", signed))
            self._staged.clear()
        self._records[state.round] = known or self._write_record(state, said | stored)
        self._head = state.round
        return self._records[state.round]

    def stage(self, state: ServerState, said: dict[str, Any], learnt: Memories | None = None) -> Committed:
        """Records an interim round, whose state is not kept; the next ``commit`` writes the record.

        Raises:
            TrainingError: the round was recorded before with another state.
            TrackingError: the store refused.
        """
        content, stored = self._packed(state, learnt)
        known = self._known(state, stored)
        if known is None:
            known = self._records[state.round] = self._record(state, {"interim": True, **said, **stored})
            self._staged.append(known)
        elif not known.interim:  # it is a checkpoint, and mended
            self._write_state(state.round, content, stored["state_sha256"])
        return known

    def _known(self, state: ServerState, stored: dict[str, Any]) -> Committed | None:
        """The record of a round that was recorded before."""
        known = self._records.get(state.round)
        if known is not None and any(known.record.get(name) != stored.get(name) for name in _DIGESTS):
            raise TrainingError(
                f"round {state.round}: computed again it has other weights than recorded; the code or the data of run "
                f"key {self.run_key} have changed, or its noise cannot be drawn again: take another key"
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
        oldest = min((number for number in self._states if number), default=0)
        self._memories.prune(self._up_to(oldest), [self._records[at] for at in range(oldest + 1, self.last + 1)])

    def finish(self, result: bytes) -> None:
        """The training is over, with this result."""
        self._results.write(self._head, result)

    def finished(self) -> bytes | None:
        """The result of a training that is over."""
        return self._results.read(self.last)

    def check_identity(self, now: Identity, accept: bool) -> list[str]:
        """What has changed since the training last ran.

        Raises:
            PlanError: something has, and ``accept`` is false.
        """
        changes = differences(self._identity, now)
        if changes and not accept:
            heading = f"run key {self.run_key} was begun differently; --accept-change goes on all the same:"
            raise PlanError("\n".join([heading, *changes]))
        return changes

    @property
    def plan(self) -> dict[str, Any]:
        """What the training was computed by when it last ran."""
        return dict(self._identity["plan"])

    @property
    def _identity(self) -> Identity:
        told = [number for number, found in self._records.items() if "identity" in found.record]
        if not told:
            raise self._nothing_whole()
        return self._records[max(told)].record["identity"]  # type: ignore[no-any-return]

    def _up_to(self, round: int) -> list[Committed]:
        """The records from the start to a round."""
        return [self._records[number] for number in range(round + 1)]

    def _nothing_whole(self) -> TrainingError:
        return TrainingError(f"run key {self.run_key}: no checkpoint in {self._store.url} is whole; take another key")

    def _read_records(self) -> Iterable[Committed]:
        for name in own_names(self._store, _RECORDS):
            try:
                signed = self._store.read(_RECORDS, name)
                yield Committed(round_of(name), read_signed(signed, "record", (self.signer.public,)), signed)
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
        self._replace([self._store.write(_RECORDS, stem(round), ".json", signed)])

    def _replace(self, written: list[str]) -> None:
        """Removes other records of the rounds that are written: some may be damaged."""
        rounds = {round_of(name) for name in written}
        for name in own_names(self._store, _RECORDS) if self.damaged else ():
            if round_of(name) in rounds and name not in written:
                self._store.delete(_RECORDS, name)

    def _write_state(self, round: int, content: bytes, digest: str) -> None:
        self._states[round] = self._store.write(_STATES, stem(round), ".safetensors", content, digest)

    def _packed(self, state: ServerState, learnt: Memories | None) -> tuple[bytes, dict[str, Any]]:
        """A state as safetensors, and what its record says of it and of the clients' memories."""
        packed, arrays = pack(state)
        content = save(arrays)
        stored = {"state": packed, "state_sha256": sha256(content)}
        return content, stored | ({"memories": self._memories.learn(state.round, learnt)} if learnt else {})

    def _state_name(self, round: int) -> str:
        return f"{stem(round)}-{self._records[round].record['state_sha256']}.safetensors"
