"""A training that died goes on: same bits, nothing twice, and no damage unseen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from federated.algorithm import Algorithm
from federated.component import Metrics, Step, Vector
from federated.errors import InputError, PlanError, TrackingError, TrainingError
from federated.loop import one_round
from federated.packing import pack
from federated.rounds import ServerState, initial_state
from federated.rules import CustomRule, FixedMean, WeightedMean
from federated.selectors import Uniform
from federated.server_optimizers import ServerOptimizer
from federated.transforms import Clip, Transform
from federated.updates import Update, digest
from tasks.journal import Journal
from tasks.run_keys import require_run_key
from tasks.signing import Signer, read_signed
from tasks.store import DamagedError, Store, sha256
from tests.fakes import FakeEngine, line_federation, plain_sgd
from tests.federated.families import RULES, SERVER_OPTIMIZERS, TRANSFORMS, USER_CODE

KEY, OTHER_KEY = (Signer(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)) for seed in (1, 2))
ENGINE, FEDERATION = FakeEngine(statistics=2), line_federation(clients=9)
ALGORITHM = Algorithm(seed=3, select=Uniform(cohort=3), local=plain_sgd(), transforms=(Clip(norm=0.5),))
ROUNDS = 5


class Moments(NamedTuple):
    """A server optimizer's state as Adam has it."""

    steps: int
    rate: float
    first: Vector
    by_sign: dict[str, Vector]


class Momentum(ServerOptimizer):
    """Heavy ball, and a little of everything that a state can hold."""

    def init(self, params: Vector) -> Moments:
        return Moments(0, 1.0, np.zeros_like(params), {})

    def next(self, round: int, state: Moments, params: Vector, delta: Vector) -> Step[Any, Vector]:
        first = np.float32(0.9) * state.first + np.float32(state.rate) * delta
        after = Moments(state.steps + 1, state.rate * 0.95, first, {**state.by_sign, "+": np.sign(first)})
        return Step(after, params + first, {})


class Remembering(Transform):
    """Adds a tenth of the aggregate before."""

    def init(self, size: int) -> list[Any]:
        return [None, np.zeros(size, np.float32)]

    def finish(
        self, state: list[Any], aggregate: Vector, updates: Sequence[Update], rng: Any, share: float
    ) -> Step[Any, Vector]:
        noise = rng.normal(0, 0.01, aggregate.size).astype(np.float32)
        return Step(
            [",".join(update.client for update in updates), aggregate],
            aggregate + np.float32(0.1) * state[1] + noise,
            Metrics(),
        )


STATEFUL = ALGORITHM.model_copy(
    update={
        "server": Momentum(),
        "transforms": (Clip(norm=0.5), Remembering()),
        "rule": CustomRule(target=f"{USER_CODE}:Median"),
    }
)
ALGORITHMS = [
    STATEFUL,
    *(ALGORITHM.model_copy(update={"rule": rule, "select": Uniform(cohort=max(3, rule.least))}) for rule in RULES),
    *(ALGORITHM.model_copy(update={"transforms": (layer,)}) for layer in TRANSFORMS if layer.noised_by == "nobody"),
    *(
        ALGORITHM.model_copy(update={"transforms": (layer,), "rule": FixedMean(expected=3.0)})
        for layer in TRANSFORMS
        if layer.noised_by != "nobody" and not layer.secret
    ),
    *(ALGORITHM.model_copy(update={"server": optimizer}) for optimizer in SERVER_OPTIMIZERS),
]


def engine_of(algorithm: Algorithm) -> FakeEngine:
    """One with moving statistics, where the rule can average them."""
    return ENGINE if algorithm.rule.averages else FakeEngine()


def next_state(state: ServerState, algorithm: Algorithm = STATEFUL) -> ServerState:
    """One plain round."""
    clients = FEDERATION.with_cards({name: {"quality": 2.0} for name in FEDERATION.clients}).clients
    root = FEDERATION.validation  # as if they were the server's to train on
    return one_round(algorithm, engine_of(algorithm), state, clients, {}, root=root).state


def bits(state: ServerState) -> tuple[str, bytes]:
    """Everything in it."""
    packed, arrays = pack(state)
    return json.dumps(packed), save(arrays)


def opened(url: Any, signer: Signer = KEY) -> Journal:
    return Journal(str(url), "plan", "key", signer)


def taken_up(journal: Journal, algorithm: Algorithm = STATEFUL) -> ServerState:
    """The state to go on from, in a new training or an old one."""
    start = initial_state(algorithm, engine_of(algorithm), 9)
    if not journal.is_new:
        return journal.resume(start)
    journal.commit(start, {"identity": {"plan": "first"}})
    return start


def play(url: Any, until: int, algorithm: Algorithm = STATEFUL) -> ServerState:
    """What a process does: it takes up the training, and commits rounds until it dies."""
    journal = opened(url)
    state = taken_up(journal, algorithm)
    while state.round < until:
        state = next_state(state, algorithm)
        journal.commit(state, {"said": f"at {state.round}"})
    return state


def file(folder: Path, kind: str, round: int) -> Path:
    """The one file of a round."""
    (found,) = (folder / "plan" / "key" / kind).glob(f"{round:06d}-*")
    return found


def rounds_of(folder: Path, kind: str) -> list[int]:
    """Which rounds have a file."""
    return sorted(int(path.name[:6]) for path in (folder / "plan" / "key" / kind).iterdir())


def put_record(folder: Path, number: int, said: dict[str, Any], signer: Signer = KEY) -> None:
    """Replaces a record by another that is signed as it should be."""
    signed = signer.sign("record", said)
    file(folder, "records", number).unlink()
    (folder / "plan" / "key" / "records" / f"{number:06d}-{sha256(signed)}.json").write_bytes(signed)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [truncate, change, empty, Path.unlink])
Damage = Callable[[Path], None]


@pytest.mark.parametrize("died_after", range(ROUNDS + 1))
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_training_goes_on_with_the_same_bits_after_any_number_of_rounds(
    kind: str, died_after: int, tmp_path: Path
) -> None:
    url = tmp_path if kind == "local" else f"memory://{tmp_path.name}"
    play(url, died_after)
    assert bits(play(url, ROUNDS)) == bits(play(tmp_path / "in one go", ROUNDS))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_goes_on_with_the_same_bits_though_it_dies_after_every_round(
    algorithm: Algorithm, tmp_path: Path
) -> None:
    for until in range(ROUNDS + 1):
        play(tmp_path, until, algorithm)
    journal = opened(tmp_path)
    assert bits(taken_up(journal, algorithm)) == bits(play(tmp_path / "in one go", ROUNDS, algorithm))
    assert [done.record.get("said") for done in journal.committed] == [None, *(f"at {n}" for n in range(1, ROUNDS + 1))]


@pytest.mark.parametrize("write", range(2 * (ROUNDS + 1)))
def test_a_process_killed_at_any_write_changes_nothing(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, really_write = list[str](), Store.write

    def dying(store: Store, folder: str, stem: str, *rest: Any) -> str:
        if len(written) == write:
            raise KeyboardInterrupt
        written.append(stem)
        return really_write(store, folder, stem, *rest)

    with monkeypatch.context() as dies:
        dies.setattr(Store, "write", dying)
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path, ROUNDS)
    assert bits(play(tmp_path, ROUNDS)) == bits(play(tmp_path / "in one go", ROUNDS))
    assert rounds_of(tmp_path, "records") == rounds_of(tmp_path, "states") == list(range(ROUNDS + 1))


def play_in_blocks(url: Any, until: int, every: int) -> ServerState:
    """Commits so many rounds together until the process dies."""
    journal = opened(url)
    state = taken_up(journal)
    while state.round < until:
        state = next_state(state)
        write = journal.commit if state.round % every == 0 or state.round == until else journal.stage
        write(state, {"said": f"at {state.round}"})
    return state


@pytest.mark.parametrize("every", [1, 2, 3, ROUNDS])
def test_a_block_has_every_record_and_the_state_of_its_last_round(every: int, tmp_path: Path) -> None:
    assert bits(play_in_blocks(tmp_path, ROUNDS, every)) == bits(play(tmp_path / "in one go", ROUNDS))
    ends = {0, ROUNDS, *range(0, ROUNDS + 1, every)}
    assert rounds_of(tmp_path, "states") == sorted(ends)
    journal, alone = opened(tmp_path), opened(tmp_path / "in one go")
    assert (taken_up(journal).round, journal.damaged) == (ROUNDS, [])
    taken_up(alone)
    assert {done.round for done in journal.committed if not journal.is_interim(done.round)} == ends
    for found, other in zip(journal.committed, alone.committed, strict=True):
        left_out = ("previous", "interim")
        assert {n: v for n, v in found.record.items() if n not in left_out} == {
            n: v for n, v in other.record.items() if n not in left_out
        }


@pytest.mark.parametrize("again", [1, 2, 3])
@pytest.mark.parametrize("write", range(2, 10))
def test_a_process_killed_in_a_block_changes_nothing_whatever_the_blocks_are_afterwards(
    write: int, again: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, really_rename = list[Path](), Path.replace

    def dying(temporary: Path, path: Path) -> Path:
        if len(written) == write:
            raise KeyboardInterrupt
        written.append(path)
        return really_rename(temporary, path)

    with monkeypatch.context() as dies:
        dies.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            play_in_blocks(tmp_path, 6, 3)
    before = sorted((tmp_path / "plan" / "key" / "records").iterdir())
    assert taken_up(found := opened(tmp_path)).round in (0, 3)
    assert found.damaged == []
    assert bits(play_in_blocks(tmp_path, 6, again)) == bits(play(tmp_path / "in one go", 6))
    after = sorted((tmp_path / "plan" / "key" / "records").iterdir())
    assert set(before) <= set(after)
    assert rounds_of(tmp_path, "records") == list(range(7))


def test_of_a_block_only_the_checkpoint_that_is_damaged_is_told(tmp_path: Path) -> None:
    play_in_blocks(tmp_path, 6, 3)
    path = file(tmp_path, "states", 6)
    truncate(path)
    journal = opened(tmp_path)
    assert taken_up(journal).round == 3
    (said,) = journal.damaged
    assert said.startswith(f"{path} is damaged")


@pytest.mark.parametrize("damage", [truncate, change, empty])
def test_a_damaged_record_in_a_block_is_reported_until_its_round_is_done_again(damage: Damage, tmp_path: Path) -> None:
    play_in_blocks(tmp_path, 6, 3)
    damage(file(tmp_path, "records", 5))
    journal = opened(tmp_path)
    assert (taken_up(journal).round, len(journal.damaged)) == (3, 1)
    play_in_blocks(tmp_path, 6, 3)
    healed = opened(tmp_path)
    assert (taken_up(healed).round, healed.damaged) == (6, [])


def test_an_interim_round_computed_again_with_other_weights_is_refused(tmp_path: Path) -> None:
    play_in_blocks(tmp_path, 3, 3)
    truncate(file(tmp_path, "states", 3))
    journal = opened(tmp_path)
    other = next_state(taken_up(journal), STATEFUL.model_copy(update={"rule": WeightedMean()}))
    with pytest.raises(TrainingError, match=r"^round 1: computed again .* other weights"):
        journal.stage(other, {})


def test_a_checkpoint_that_is_inside_a_block_the_next_time_is_mended(tmp_path: Path) -> None:
    play(tmp_path, 3)
    path = file(tmp_path, "states", 2)
    whole = path.read_bytes()
    truncate(path)
    truncate(file(tmp_path, "states", 3))
    play_in_blocks(tmp_path, 4, 4)
    assert path.read_bytes() == whole


def test_so_many_checkpoints_stay_however_long_the_blocks_are(tmp_path: Path) -> None:
    play_in_blocks(tmp_path, 9, 3)
    journal = opened(tmp_path)
    taken_up(journal)
    journal.prune(2, 9)
    assert rounds_of(tmp_path, "states") == [0, 6, 9]


def test_what_is_committed_counts_at_once(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    state = taken_up(journal)
    for number in range(1, 4):
        state = next_state(state)
        assert journal.commit(state, {}) == journal.committed[-1]
        assert [done.round for done in journal.committed] == list(range(number + 1))
    journal.prune(1, 3)
    assert rounds_of(tmp_path, "states") == [0, 3]
    assert not journal.is_new


def test_a_round_that_could_not_be_recorded_never_happened(tmp_path: Path) -> None:
    play(tmp_path, 1)
    journal = opened(tmp_path)
    state = taken_up(journal)
    (tmp_path / "plan" / "key" / "records").rename(tmp_path / "away")
    (tmp_path / "plan" / "key" / "records").touch()
    with pytest.raises(TrackingError, match="cannot be written"):
        journal.commit(next_state(state), {})
    assert [done.round for done in journal.committed] == [0, 1]


@DAMAGE
def test_a_damaged_state_falls_back_to_the_one_before_and_says_so(damage: Damage, tmp_path: Path) -> None:
    play(tmp_path, 3)
    path = file(tmp_path, "states", 3)
    damage(path)
    journal = opened(tmp_path)
    assert bits(taken_up(journal)) == bits(play(tmp_path / "in one go", 2))
    (said,) = journal.damaged
    assert said.startswith(f"{path} is ")
    assert [done.round for done in journal.committed] == [0, 1, 2]


@DAMAGE
def test_two_damaged_states_fall_back_by_two(damage: Damage, tmp_path: Path) -> None:
    play(tmp_path, 4)
    paths = [file(tmp_path, "states", number) for number in (4, 3)]
    for path in paths:
        damage(path)
    journal = opened(tmp_path)
    assert taken_up(journal).round == 2
    assert [said.partition(" ")[0] for said in journal.damaged] == [str(path) for path in paths]


@DAMAGE
def test_where_every_state_is_damaged_the_training_does_not_start_over_silently(damage: Damage, tmp_path: Path) -> None:
    play(tmp_path, 2)
    for path in (tmp_path / "plan" / "key" / "states").iterdir():
        damage(path)
    with pytest.raises(TrainingError, match=r"^run key key: no checkpoint in .*/plan/key is whole; take another key$"):
        taken_up(opened(tmp_path))


def test_damage_in_the_middle_is_no_matter(tmp_path: Path) -> None:
    play(tmp_path, 3)
    truncate(file(tmp_path, "states", 1))
    journal = opened(tmp_path)
    assert (taken_up(journal).round, journal.damaged) == (3, [])
    with pytest.raises(DamagedError):
        journal.state_bytes(1)


@DAMAGE
def test_a_round_computed_again_keeps_its_record_and_mends_its_state(damage: Damage, tmp_path: Path) -> None:
    play(tmp_path, 3)
    records = {path: path.read_bytes() for path in (tmp_path / "plan" / "key" / "records").iterdir()}
    path = file(tmp_path, "states", 3)
    whole = path.read_bytes()
    damage(path)
    journal = opened(tmp_path)
    again = journal.commit(next_state(taken_up(journal)), {"said": "later"})
    assert again.record["said"] == "at 3"
    assert again.signed == file(tmp_path, "records", 3).read_bytes()
    assert {path: path.read_bytes() for path in (tmp_path / "plan" / "key" / "records").iterdir()} == records
    assert path.read_bytes() == whole
    healed = opened(tmp_path)
    assert (taken_up(healed).round, healed.damaged) == (3, [])


def test_a_round_computed_again_with_other_weights_is_refused(tmp_path: Path) -> None:
    play(tmp_path, 3)
    truncate(file(tmp_path, "states", 3))
    journal = opened(tmp_path)
    other = next_state(taken_up(journal), STATEFUL.model_copy(update={"rule": WeightedMean()}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        TrainingError, match=r"^round 3: computed again .* other weights .* run key key .* another key$"
    ):
        journal.commit(other, {})
    assert sorted(tmp_path.rglob("*")) == before
    assert [done.round for done in journal.committed] == [0, 1, 2]


@DAMAGE
@pytest.mark.parametrize(("number", "goes_on_after"), [(3, 2), (1, 0)])
def test_a_damaged_record_ends_what_is_trusted(damage: Damage, number: int, goes_on_after: int, tmp_path: Path) -> None:
    play(tmp_path, 3)
    name = file(tmp_path, "records", number).name
    damage(file(tmp_path, "records", number))
    journal = opened(tmp_path)
    assert taken_up(journal).round == goes_on_after
    assert [said.partition(":")[0] for said in journal.damaged] == ([name] if damage is not Path.unlink else [])
    assert bits(play(tmp_path, ROUNDS)) == bits(play(tmp_path / "in one go", ROUNDS))


def test_a_damaged_record_is_reported_until_its_round_is_done_again(tmp_path: Path) -> None:
    play(tmp_path, 3)
    truncate(file(tmp_path, "records", 3))
    journal = opened(tmp_path)
    journal.commit(next_state(taken_up(journal)), {"said": "later"})
    assert opened(tmp_path).damaged == []


@pytest.mark.parametrize(
    ("keep", "registered", "left"),
    [
        (1, 6, [0, 6]),
        (3, 6, [0, 4, 5, 6]),
        (3, 2, [0, 3, 4, 5, 6]),
        (1, 0, [0, 1, 2, 3, 4, 5, 6]),
        (9, 6, [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_stays_is_the_start_the_last_few_and_what_is_not_registered(
    keep: int, registered: int, left: list[int], tmp_path: Path
) -> None:
    play(tmp_path, 6)
    journal = opened(tmp_path)
    taken_up(journal)
    for _ in range(2):
        journal.prune(keep, registered)
        assert rounds_of(tmp_path, "states") == left
    assert rounds_of(tmp_path, "records") == list(range(7))
    assert taken_up(opened(tmp_path)).round == 6


def test_what_cannot_be_removed_is_removed_the_next_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(tmp_path, 6)
    journal = opened(tmp_path)
    taken_up(journal)
    with monkeypatch.context() as read_only:
        read_only.setattr(Store, "delete", refuse)
        journal.prune(1, 6)
    assert rounds_of(tmp_path, "states") == list(range(7))
    journal.prune(1, 6)
    assert rounds_of(tmp_path, "states") == [0, 6]


def refuse(*_: Any) -> None:
    raise TrackingError("the store refused")


def test_a_record_and_a_state_from_elsewhere_are_taken_where_they_fit(tmp_path: Path) -> None:
    play(tmp_path / "whole", 3)
    play(tmp_path / "older", 1)
    journal, whole = opened(tmp_path / "older"), opened(tmp_path / "whole")
    assert bits(taken_up(whole)) == bits(play(tmp_path / "whole", 3))
    records, states = [done.signed for done in whole.committed], [whole.state_bytes(number) for number in range(4)]
    assert not journal.adopt(records[3]), "it follows another"
    forked = KEY.sign("record", read_signed(records[1], "record") | {"seconds": 9.0})
    strange = KEY.sign("place", {"model": "plan", "version": "2"})
    by_another = OTHER_KEY.sign("record", read_signed(records[2], "record"))
    assert [journal.adopt(one) for one in (forked, strange, by_another, b"", records[2])] == [False] * 4 + [True]
    assert [journal.adopt_state(2, one) for one in (states[1], b"", states[2])] == [False, False, True]
    again = opened(tmp_path / "older")
    assert (taken_up(again).round, again.damaged) == (2, [])
    assert again.committed == whole.committed[:3]


def test_a_training_pruned_after_every_round_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    for until in range(ROUNDS + 1):
        play(tmp_path, until)
        journal = opened(tmp_path)
        taken_up(journal)
        journal.prune(1, until)
    assert bits(taken_up(opened(tmp_path))) == bits(play(tmp_path / "in one go", ROUNDS))
    truncate(file(tmp_path, "states", ROUNDS))
    journal = opened(tmp_path)
    assert taken_up(journal).round == 0
    assert bits(play(tmp_path, ROUNDS)) == bits(play(tmp_path / "in one go", ROUNDS))


def test_a_record_says_what_it_is_and_names_the_one_before(tmp_path: Path) -> None:
    state, previous = play(tmp_path, 3), None
    for number in range(4):
        signed = file(tmp_path, "records", number).read_bytes()
        record = read_signed(signed, "record", (KEY.public,))
        assert (record["round"], record["run_key"], record["previous"]) == (number, "key", previous)
        assert record["state_sha256"] == sha256(file(tmp_path, "states", number).read_bytes())
        previous = sha256(signed)
    assert record["weights_sha256"] == digest(state.params)


def test_the_chain_goes_on_over_the_death_of_a_process(tmp_path: Path) -> None:
    for until in (1, 3):
        play(tmp_path, until)
    journal = opened(tmp_path)
    taken_up(journal)
    before, after = journal.committed[:-1], journal.committed[1:]
    assert [done.record["previous"] for done in after] == [done.sha256 for done in before]


def test_a_record_signed_by_another_key_is_not_trusted(tmp_path: Path) -> None:
    play(tmp_path, 3)
    said = opened(tmp_path)._records[3].record
    put_record(tmp_path, 3, said, OTHER_KEY)
    name = file(tmp_path, "records", 3).name
    journal = opened(tmp_path)
    assert taken_up(journal).round == 2
    (told,) = journal.damaged
    assert told.startswith(f"{name}: it is signed by the key {OTHER_KEY.public[:12]}…, not by {KEY.public[:12]}…")


def test_a_training_signed_by_another_key_does_not_start_over(tmp_path: Path) -> None:
    play(tmp_path, 3)
    assert not opened(tmp_path, OTHER_KEY).is_new


def test_a_training_whose_first_record_is_damaged_is_not_new(tmp_path: Path) -> None:
    play(tmp_path, 3)
    truncate(file(tmp_path, "records", 0))
    assert not opened(tmp_path).is_new


REPLACED: dict[str, dict[str, Any]] = {
    "other content": {"said": "never"},
    "of another round": {"round": 2},
    "of another training": {"run_key": "other"},
}


@pytest.mark.parametrize("other", REPLACED.values(), ids=REPLACED)
def test_a_record_that_was_replaced_is_seen(other: dict[str, Any], tmp_path: Path) -> None:
    play(tmp_path, 3)
    put_record(tmp_path, 1, opened(tmp_path)._records[1].record | other)
    journal = opened(tmp_path)
    assert (taken_up(journal).round, len(journal.damaged)) != (3, 0)


def test_of_two_records_of_a_round_the_one_that_the_next_names_counts(tmp_path: Path) -> None:
    play(tmp_path, 3)
    path, record = file(tmp_path, "records", 1), opened(tmp_path)._records[1].record
    for attempt in range(8):  # some sort before it, some after
        signed = KEY.sign("record", record | {"attempt": attempt})
        path.with_name(f"000001-{sha256(signed)}.json").write_bytes(signed)
    journal = opened(tmp_path)
    assert taken_up(journal).round == 3
    assert journal.committed[1].signed == path.read_bytes()


@pytest.mark.parametrize(
    "run_key",
    ["", ".", "..", "../x", "a/b", "/etc", "a\\b", ".hidden", "-flag", "_x", "a b", "a\n", "\0", "ü", "a:b", "a" * 81],
)
def test_a_run_key_that_is_no_name_is_refused(run_key: str) -> None:
    with pytest.raises(
        InputError, match=r"^--run-key .*: expected up to 80 letters, digits, dots, dashes and underscor"
    ):
        require_run_key(run_key)


@pytest.mark.parametrize(
    "run_key", ["a", "0", "nightly-2026.11.22_b", "3f0c8f4e-9f55-4f0e-8f6e-0a3c0d1f2b3c", "a" * 80]
)
def test_a_run_key_that_is_a_name_will_do(run_key: str) -> None:
    require_run_key(run_key)


def test_run_keys_and_plans_do_not_see_each_other(tmp_path: Path) -> None:
    play(tmp_path, 2)
    assert Journal(str(tmp_path), "plan", "key2", KEY).is_new
    assert Journal(str(tmp_path), "plan2", "key", KEY).is_new
    assert not Journal(f"{tmp_path}/", "plan", "key", KEY).is_new


def test_the_same_plan_and_code_go_on(tmp_path: Path) -> None:
    play(tmp_path, 1)
    for accept in (False, True):
        assert opened(tmp_path).check_identity({"plan": "first"}, accept) == []


def test_a_changed_plan_is_refused_with_what_has_changed(tmp_path: Path) -> None:
    play(tmp_path, 1)
    now = {"plan": "second", "code": {"a.py": "1"}}
    with pytest.raises(PlanError) as refusal:
        opened(tmp_path).check_identity(now, accept=False)
    assert str(refusal.value).splitlines() == [
        "run key key was begun differently; --accept-change goes on all the same:",
        "plan: first, now second",
        "code.a.py: absent, now 1",
    ]
    assert opened(tmp_path).check_identity(now, accept=True) == ["plan: first, now second", "code.a.py: absent, now 1"]


def test_what_was_accepted_is_what_the_next_start_is_compared_with(tmp_path: Path) -> None:
    play(tmp_path, 1)
    journal = opened(tmp_path)
    journal.commit(next_state(taken_up(journal)), {"identity": {"plan": "second"}})
    assert opened(tmp_path).check_identity({"plan": "second"}, accept=False) == []
    with pytest.raises(PlanError, match="plan: second, now first"):
        opened(tmp_path).check_identity({"plan": "first"}, accept=False)


def finish(url: Any, rounds: int, result: bytes) -> None:
    """Another process that ends the training."""
    play(url, rounds)
    journal = opened(url)
    taken_up(journal)
    journal.finish(result)


def test_a_training_that_is_over_gives_its_result(tmp_path: Path) -> None:
    play(tmp_path, 2)
    assert opened(tmp_path).finished() is None
    finish(tmp_path, 2, b"the result")
    assert opened(tmp_path).finished() == b"the result"


@DAMAGE
def test_a_damaged_result_is_none(damage: Damage, tmp_path: Path) -> None:
    finish(tmp_path, 2, b"the result")
    damage(file(tmp_path, "results", 2))
    assert opened(tmp_path).finished() is None


def test_the_result_of_an_earlier_end_is_not_that_of_a_training_that_went_on(tmp_path: Path) -> None:
    finish(tmp_path, 2, b"two rounds")
    play(tmp_path, 3)
    assert opened(tmp_path).finished() is None


def test_of_two_results_of_a_round_the_later_counts(tmp_path: Path) -> None:
    for results in ((b"one", b"two"), (b"two", b"one")):
        folder = tmp_path / results[-1].decode()
        for result in results:
            finish(folder, 2, result)
        assert opened(folder).finished() == results[-1]


def test_an_attempt_is_told_of_those_before_it(tmp_path: Path) -> None:
    told = [opened(tmp_path).attempts.note(flow_run) for flow_run in ("first", "second", "second", "third")]
    assert told == [[], ["first"], ["first"], ["first", "second", "second"]]


def test_a_damaged_note_of_an_attempt_is_no_matter(tmp_path: Path) -> None:
    for flow_run in ("first", "second"):
        opened(tmp_path).attempts.note(flow_run)
    truncate(file(tmp_path, "attempts", 0))
    assert opened(tmp_path).attempts.note("third") == ["second"]


@pytest.mark.parametrize("kind", ["records", "states", "results", "attempts"])
def test_what_a_killed_process_left_half_written_is_not_seen(kind: str, tmp_path: Path) -> None:
    finish(tmp_path, 2, b"the result")
    opened(tmp_path).attempts.note("first")
    (tmp_path / "plan" / "key" / kind / ".000009-abc.json.4711").write_bytes(b"half")
    journal = opened(tmp_path)
    assert (taken_up(journal).round, journal.damaged) == (2, [])
    assert journal.finished() == b"the result"
    assert journal.attempts.note("second") == ["first"]


@pytest.mark.parametrize("name", ["README.txt", "Thumbs.db", "lost+found"])
def test_a_file_of_somebody_else_is_no_matter(name: str, tmp_path: Path) -> None:
    play(tmp_path, 2)
    (tmp_path / "plan" / "key" / "states" / name).touch()
    assert taken_up(opened(tmp_path)).round == 2


def test_the_root_of_a_store_is_no_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened("memory://").attempts.note("first")
    assert list(tmp_path.iterdir()) == []
