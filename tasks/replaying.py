"""A registered round computed again, from the nearest weights before it: every model can be audited."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.numpy import load

from configs.loading import plan_of
from configs.plan import Plan
from federated.component import Vector
from federated.errors import InputError, TrainingError
from federated.loop import Passed, one_round
from federated.packing import Arrays, pack, unpack
from federated.rounds import Memories, ServerState, initial_state
from federated.selectors import Selection
from federated.transforms import NOISE_FOUND
from federated.updates import digest
from tasks.engines import engine_of, prepare
from tasks.fitting import taken_over
from tasks.history import history
from tasks.identity import digest_of_code, identify
from tasks.signing import Trusted
from tasks.stored import Library
from tasks.training import RoundReport
from tasks.versions import ROUND, STATE

_CERTAIN = 6.0  # standard errors


class Span(NamedTuple):
    """From ``least`` to ``most``."""

    least: float
    most: float


class Replayed(NamedTuple):
    """A round computed again: the digest of the weights that was recorded, and the one found now.

    ``since`` is the round whose weights it was computed from, with every round between. ``differing`` are clients whose
    updates are not those recorded, which is not known of clients with secret noise; ``code_changed`` says whether other
    code computed. ``noise`` is how strong that of the round was, over its clip norm, where it could not be drawn again,
    and ``claimed`` how strong it should be.
    """

    name: str
    version: str
    round: int
    since: int
    recorded: str
    computed: str
    differing: tuple[str, ...]
    code_changed: bool
    noise: float | None = None
    claimed: Span = Span(0.0, math.inf)

    @property
    def agrees(self) -> bool:
        """Whether it gave the same bits, with as much noise as there should be."""
        return self.recorded == self.computed and not self._wrong_noise

    @property
    def _wrong_noise(self) -> bool:
        return self.noise is not None and not self.claimed.least <= self.noise <= self.claimed.most

    def lines(self) -> Iterator[str]:
        """To print."""
        yield f"{self.name} version {self.version}, round {self.round}"
        if self.since < self.round - 1:
            yield f"computed from round {self.since}: no round between has weights"
        yield f"recorded  sha256 {self.recorded}"
        yield f"computed  sha256 {self.computed}"
        if self.differing:
            yield f"updates that differ: {', '.join(self.differing)}"
        if self.code_changed:
            yield "the code has changed since"
        if self.noise is not None:
            least, most = self.claimed
            yield f"noise of the round: {self.noise:.4f} times the clip norm, claimed are {least:.4f} to {most:.4f}"
        yield "the same bits" if self.agrees else "DIFFERENT"


def replay(uri: str, trusted: Trusted) -> Replayed:
    """Computes a version again, with the plan that it records and the data of today.

    It begins with the state of its parent. Where retention has removed that, it begins with the nearest round before
    that has weights. Every round from there is computed; the first of them that differs is what is given.

    Raises:
        InputError: there is no such version, its plan no longer holds, or the weights that its training started from
            are gone.
        TrainingError: the weights to begin with are not those recorded.
        TrackingError: MLflow cannot be read.
        ForgedError: a record was changed, or signed by a key that is not ``trusted``.
    """
    library = Library()
    with library.open(uri, files=ROUND) as stored:
        records = history(library, stored, trusted)[::-1]
        versions = library.of_run(stored.name, stored.run_id) | {len(records) - 1: stored.version}
    past = _Past(library, stored.name, records, versions)
    state = past.begin()
    since = state.round
    while True:
        found, state = past.go_on(state, since)
        if not found.agrees or found.round == len(records) - 1:
            return found


class _Past:
    """The rounds of a training up to a version: ``records`` and ``versions`` by round."""

    def __init__(self, library: Library, name: str, records: list[dict[str, Any]], versions: dict[int, str]) -> None:
        self._library, self._name, self._records, self._versions = library, name, records, versions
        self._machine: tuple[int, _Machine] | None = None
        self._memories: Memories = {}

    def begin(self) -> ServerState:
        """The last state before the version that is there; that of the start is made anew."""
        for number in range(len(self._records) - 2, 0, -1):
            arrays = None if self._computing(number + 1).remembers else self._arrays(number)
            if arrays is not None:
                return self._checked(unpack(self._records[number]["state"], arrays, self._computing(number + 1).start))
        return self._checked(self._start())

    def go_on(self, state: ServerState, since: int) -> tuple[Replayed, ServerState]:
        """The round after a state, and the state after it."""
        number = state.round + 1
        machine, record = self._computing(number), self._records[number]
        passed = machine.after(state, self._memories, self._drawn(number, machine))
        updates, after = passed.updates, passed.state
        sent = {client: sha256 for client, sha256, _ in record["report"]["contributions"]}
        computed = {update.client: update.sha256 for update in updates}
        found = Replayed(
            name=self._name,
            version=self._versions[min(at for at in self._versions if at >= number)],
            round=number,
            since=since,
            recorded=record["weights_sha256"],
            computed=digest(after.params),
            differing=_differing(sent, computed, machine.algorithm.messages_repeat),
            code_changed=record["code_sha256"] != machine.code_sha256,
            noise=passed.metrics.get(NOISE_FOUND),
            claimed=machine.claimed,
        )
        return found, after

    def _drawn(self, number: int, machine: _Machine) -> _Drawn | None:
        """What chance decided in a round, where nobody can draw it again."""
        algorithm, record = machine.algorithm, self._records[number]
        if algorithm.unit is None:
            return None
        cohort = RoundReport.from_json(number, record["report"]).cohort
        selection = Selection(cohort, cohort, {})
        if not algorithm.secret:
            return _Drawn(selection, machine.start.transforms, None)
        arrays = self._arrays(number)
        if arrays is None:
            raise InputError(
                f"round {number}: retention has removed what it released, and noise cannot be drawn again; replay a "
                "version with weights, after one with weights"
            )
        left = unpack(record["state"], arrays, machine.start)
        return _Drawn(selection, left.transforms, left.aggregate)

    def _arrays(self, number: int) -> Arrays | None:
        """The state after a round; None where it is no version, or one without weights."""
        version = self._versions.get(number)
        return None if version is None else _arrays(self._library, self._name, version)

    def _start(self) -> ServerState:
        state, version = self._computing(1).start, self._records[0]["start"]
        if version is None:
            return state
        arrays = _arrays(self._library, self._name, version)
        if arrays is None:
            raise InputError(
                f"{self._name} version {version}: retention has removed its weights, with which this training began; "
                "replay a version after one that has weights"
            )
        return state._replace(params=arrays["state.params"])

    def _computing(self, number: int) -> _Machine:
        """What computes a round: the plan may have changed between two, which its record says."""
        told = max(at for at in range(number + 1) if "identity" in self._records[at])
        if self._machine is None or self._machine[0] != told:
            self._machine = told, _Machine(plan_of(self._records[told]["identity"]["plan"]))
        return self._machine[1]

    def _checked(self, state: ServerState) -> ServerState:
        if digest(state.params) != self._records[state.round]["weights_sha256"]:
            raise TrainingError(f"round {state.round}: its weights are not those recorded; roundhouse verify says more")
        return state


class _Drawn(NamedTuple):
    """The cohort of a round, what its transforms left, their noise included, and its aggregate, where that is kept."""

    selection: Selection
    transforms: tuple[Any, ...]
    aggregate: Vector | None


class _Machine:
    """The plain loop of a plan."""

    def __init__(self, plan: Plan) -> None:
        prepare()
        self._plan, self._federation = plan, plan.federation()
        self.algorithm = plan.algorithm
        self._engine = engine_of(plan, self._federation)
        self._adversary = plan.adversary(self._federation)
        self.start = initial_state(plan.algorithm, self._engine, len(self._federation.clients))
        self.code_sha256 = digest_of_code(identify(plan))

    @property
    def remembers(self) -> bool:
        """Whether clients keep a memory, which no version has: then rounds are computed from the start."""
        return self.algorithm.remembers

    @property
    def claimed(self) -> Span:
        """What the noise of a round may be measured as: the smaller the model, the rougher."""
        release = self.algorithm.release
        if release is None:
            return Span(0.0, math.inf)
        error = _CERTAIN * release.noise_multiplier / math.sqrt(2 * max(self._engine.trainable, 1))
        return Span(release.noise_multiplier - error, release.noise_multiplier + error)

    def after(self, state: ServerState, memories: Memories, drawn: _Drawn | None) -> Passed:
        """The round after a state, which another plan may have left; ``memories`` become those after the round.

        ``drawn`` is what is not drawn again.
        """
        algorithm, engine, clients = self.algorithm, self._engine, self._federation.clients
        before = taken_over(unpack(*pack(state), self.start), self.start)
        needed, root = self._plan.needed, self._federation.root
        selection = known = None
        if drawn is not None:
            again = tuple(layer.again(left) for layer, left in zip(algorithm.transforms, drawn.transforms, strict=True))
            algorithm = algorithm.model_copy(update={"transforms": again})
            selection, known = drawn.selection, drawn.aggregate
        passed = one_round(
            algorithm, engine, before, clients, memories, needed, root, self._adversary, selection, known
        )
        memories |= passed.learnt
        return passed


def _differing(sent: dict[str, str], computed: dict[str, str], repeat: bool) -> tuple[str, ...]:
    """Clients whose messages have another digest; where noise in these cannot be drawn again, those with none."""
    different = {client for client, _ in sent.items() ^ computed.items()}
    return tuple(sorted(different if repeat else sent.keys() ^ computed.keys()))


def _arrays(library: Library, name: str, version: str) -> Arrays | None:
    """A version's state; None where retention has removed it."""
    with library.open(f"{name}/{version}", files=ROUND) as stored:
        if not stored.has_weights:
            return None
        try:
            return load((stored.folder / STATE).read_bytes())
        except SafetensorError as error:
            raise TrainingError(f"round {stored.tags.get('round')}: {stored} is damaged; verify says more") from error
