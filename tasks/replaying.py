"""A registered round computed again from the version before it: every model can be audited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.numpy import load

from configs.loading import plan_of
from configs.plan import Plan
from federated.engine import Engine
from federated.errors import InputError, TrainingError
from federated.federation import Federation
from federated.packing import Arrays, unpack
from federated.rounds import ServerState, client_half, initial_state, screen, select, server_half
from federated.updates import Update, digest
from tasks.history import history
from tasks.identity import digest_of_code, identify
from tasks.signing import Trusted
from tasks.stored import Library, StoredVersion
from tasks.versions import ROUND, STATE


class Replayed(NamedTuple):
    """A round computed again: the digest of the weights that was recorded, and the one found now.

    ``differing`` are clients whose updates are not those recorded; ``code_changed`` says whether other code computed.
    """

    name: str
    version: str
    round: int
    recorded: str
    computed: str
    differing: tuple[str, ...]
    code_changed: bool

    @property
    def agrees(self) -> bool:
        """Whether it gave the same bits."""
        return self.recorded == self.computed

    def lines(self) -> Iterator[str]:
        """To print."""
        yield f"{self.name} version {self.version}, round {self.round}"
        yield f"recorded  sha256 {self.recorded}"
        yield f"computed  sha256 {self.computed}"
        if self.differing:
            yield f"updates that differ: {', '.join(self.differing)}"
        if self.code_changed:
            yield "the code has changed since"
        yield "the same bits" if self.agrees else "DIFFERENT"


def replay(uri: str, trusted: Trusted) -> Replayed:
    """Computes a version again, from its parent's state, with the plan that it records and the data of today.

    Raises:
        InputError: there is no such version, its plan no longer holds, or its parent's weights are gone.
        TrackingError: MLflow cannot be read.
        ForgedError: a record was changed, or signed by a key that is not ``trusted``.
    """
    library = Library()
    with library.open(uri, files=ROUND) as stored:
        records = history(library, stored, trusted)
    record, before = records[0], records[1]
    identity = next(past["identity"] for past in records if "identity" in past)
    plan = plan_of(identity["plan"])
    federation = plan.federation()
    updates, after = _compute(plan, federation, lambda engine: _state(library, stored, plan, engine, before))
    sent = {client: sha256 for client, sha256, _ in record["report"]["contributions"]}
    computed = {update.client: update.sha256 for update in updates}
    return Replayed(
        name=stored.name,
        version=stored.version,
        round=int(record["round"]),
        recorded=record["weights_sha256"],
        computed=digest(after.params),
        differing=tuple(sorted({client for client, _ in sent.items() ^ computed.items()})),
        code_changed=record["code_sha256"] != digest_of_code(identify(plan)),
    )


def _compute(
    plan: Plan, federation: Federation, state_before: Callable[[Engine], ServerState]
) -> tuple[tuple[Update, ...], ServerState]:
    """The plain loop's round after a state."""
    from models.keras_engine import KerasEngine

    engine, algorithm = KerasEngine(plan.model, federation.inputs, federation.classes), plan.algorithm
    state = state_before(engine)
    number = state.round + 1
    cohort = select(algorithm, number, list(federation.clients))
    updates = [client_half(algorithm, engine, number, state.params, federation.clients[name]) for name in cohort]
    usable = screen(number, updates, plan.quorum).updates
    return usable, server_half(algorithm, state, usable)[0]


def _state(library: Library, stored: StoredVersion, plan: Plan, engine: Engine, record: dict[str, Any]) -> ServerState:
    """The state that a record names, from the registry; that of the start is made anew."""
    like = initial_state(plan.algorithm, engine)
    if record["round"] > 0:
        version = library.of_run(stored.name, stored.run_id)[int(record["round"])]
        state = unpack(record["state"], _arrays(library, stored.name, version), like)
    elif record["start"] is not None:
        state = like._replace(params=_arrays(library, stored.name, record["start"])["state.params"])
    else:
        state = like
    if digest(state.params) != record["weights_sha256"]:
        raise TrainingError(f"round {record['round']}: its weights are not those recorded; roundhouse verify says more")
    return state


def _arrays(library: Library, name: str, version: str) -> Arrays:
    with library.open(f"{name}/{version}", files=ROUND) as parent:
        if not parent.has_weights:
            raise InputError(f"{parent}: retention has removed its weights; replay a version that keeps its parent")
        try:
            return load((parent.folder / STATE).read_bytes())
        except SafetensorError as error:
            raise TrainingError(f"round {parent.tags.get('round')}: {parent} is damaged; verify says more") from error
