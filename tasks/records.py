"""What rounds record, as a chain: every record names the digest of the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tasks.store import sha256


class Committed(NamedTuple):
    """A round that is done: what it recorded, as signed bytes and as read."""

    round: int
    record: dict[str, Any]
    signed: bytes

    @property
    def sha256(self) -> str:
        """The record's identity, which the next record names."""
        return sha256(self.signed)

    @property
    def interim(self) -> bool:
        """Whether it was recorded inside a block: by design its state was not kept."""
        return bool(self.record.get("interim", False))

    def follows(self, previous: str | None, run_key: str) -> bool:
        """Whether it is the record of its round, after the one with the digest ``previous``."""
        said = tuple(self.record.get(name) for name in ("previous", "round", "run_key"))
        return said == (previous, self.round, run_key)


def attacked(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether clients attacked in the training that recorded these, as they do in simulations."""
    return any(record["identity"]["plan"].get("attacks") for record in records if "identity" in record)


def simulated(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the training that recorded these was a simulation, as a whole or for some of its rounds."""
    return any(record["identity"]["plan"].get("simulation") for record in records if "identity" in record)


def counted(records: Iterable[Mapping[str, Any]], terms: Mapping[str, Any], simulation: bool) -> bool:
    """Whether all rounds of the training that recorded these have paid into a ledger of these ``terms``.

    Those of a simulation have not, but for another simulation: its noise may be taken away again.
    """

    def paid(record: Mapping[str, Any]) -> bool:
        said = record.get("privacy", {})
        return all(said.get(name) == value for name, value in terms.items())

    return (simulation or not simulated(records)) and all(paid(record) for record in records if record["round"])


class Block(NamedTuple):
    """Rounds that are committed together: the last has a state and becomes a version, those before it do not."""

    before: tuple[Committed, ...]
    last: Committed

    @property
    def parent(self) -> int:
        """The round that the block goes on from."""
        return self.last.round - len(self.before) - 1


def in_blocks(rounds: Iterable[Committed], is_interim: Callable[[int], bool]) -> Iterator[Block]:
    """Rounds that follow each other, each with the interim rounds before it."""
    before: list[Committed] = []
    for committed in rounds:
        if is_interim(committed.round):
            before.append(committed)
        else:
            yield Block(tuple(before), committed)
            before.clear()


class Chain(NamedTuple):
    """Records from the start on, by round; and those of the round after the last that do not follow it."""

    records: dict[int, Committed]
    unfit: list[Committed]


def chained(found: Iterable[Committed], run_key: str) -> Chain:
    """The records from the start on that name the one before."""
    by_round: dict[int, list[Committed]] = {}
    for one in found:
        by_round.setdefault(one.round, []).append(one)
    chain: dict[int, Committed] = {}
    previous: str | None = None
    while fitting := [one for one in by_round.get(len(chain), []) if one.follows(previous, run_key)]:
        named = {after.record["previous"] for after in by_round.get(len(chain) + 1, [])}
        chain[len(chain)] = next((one for one in fitting if one.sha256 in named), fitting[-1])
        previous = chain[len(chain) - 1].sha256
    return Chain(chain, by_round.get(len(chain), []))
