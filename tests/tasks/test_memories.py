"""What clients keep, on disk: the same after every death, no more of it than is needed, and none in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.corrections import FedDyn, NoCorrection, Scaffold
from federated.errors import TrainingError
from federated.loop import one_round
from federated.packing import pack
from federated.rounds import Memories, ServerState, initial_state
from federated.selectors import Uniform
from federated.transforms import TopK
from tasks.journal import Journal
from tasks.store import DamagedError
from tests.fakes import FakeEngine, line_federation, plain_sgd
from tests.tasks.test_journal import KEY, bits, file, rounds_of

ENGINE, FEDERATION, ROUNDS = FakeEngine(), line_federation(clients=6), 7
ALGORITHM = Algorithm(seed=3, select=Uniform(cohort=2), local=plain_sgd(epochs=3), correction=Scaffold())
REMEMBERING = [
    {"correction": Scaffold()},
    {"correction": FedDyn(alpha=0.3)},
    {"correction": NoCorrection(), "transforms": (TopK(share=0.5),)},
]
each_memory = pytest.mark.parametrize("parts", REMEMBERING, ids=repr)


def opened(url: Any) -> Journal:
    return Journal(str(url), "plan", "key", KEY)


def taken_up(journal: Journal, algorithm: Algorithm = ALGORITHM) -> tuple[ServerState, Memories]:
    start = initial_state(algorithm, ENGINE, len(FEDERATION.clients))
    if journal.is_new:
        journal.commit(start, {"identity": {"plan": "first"}})
        return start, {}
    state = journal.resume(start)
    return state, journal.memories(state.round)


def play(url: Any, until: int, algorithm: Algorithm = ALGORITHM, every: int = 1, keep: int = 0) -> tuple[Any, Memories]:
    """What a process does until it dies, with ``keep`` states."""
    journal = opened(url)
    state, memories = taken_up(journal, algorithm)
    while state.round < until:
        state, learnt, *_ = one_round(algorithm, ENGINE, state, FEDERATION.clients, memories)
        memories |= learnt
        write = journal.commit if state.round % every == 0 or state.round == until else journal.stage
        write(state, {"said": "something"}, learnt)
        if keep:
            journal.prune(keep, state.round)
    return bits(state), memories


def same(first: Memories, second: Memories) -> bool:
    (shape, arrays), (other, others) = pack(first), pack(second)
    return shape == other and all(np.array_equal(arrays[path], others[path]) for path in arrays)


@each_memory
@pytest.mark.parametrize("every", [1, 3])
def test_a_training_that_dies_after_every_round_goes_on_with_what_its_clients_kept(parts, every, tmp_path):
    algorithm = ALGORITHM.model_copy(update=parts)
    for until in range(1, ROUNDS + 1):
        found = play(tmp_path, until, algorithm, every)
    expected = play(tmp_path / "in one go", ROUNDS, algorithm)
    assert found[0] == expected[0]
    assert same(found[1], expected[1])
    assert same(opened(tmp_path).memories(ROUNDS), expected[1])


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("write", range(1, 24, 2))
def test_a_process_killed_between_two_files_changes_nothing(write, every, tmp_path, monkeypatch):
    written, really_rename = list[Path](), Path.replace

    def dying(temporary: Path, path: Path) -> Path:
        if len(written) == write:
            raise KeyboardInterrupt
        written.append(path)
        return really_rename(temporary, path)

    with monkeypatch.context() as dies:
        dies.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            play(tmp_path, ROUNDS, every=every)
    found, expected = play(tmp_path, ROUNDS, every=every), play(tmp_path / "in one go", ROUNDS)
    assert found[0] == expected[0]
    assert same(found[1], expected[1])


def test_no_more_is_kept_than_the_states_that_are_kept_need(tmp_path):
    _, memories = play(tmp_path, ROUNDS, keep=1)
    folder = tmp_path / "plan" / "key" / "memories"
    assert len(list(folder.iterdir())) == len(memories)
    assert same(opened(tmp_path).memories(ROUNDS), memories)
    play(tmp_path / "two", ROUNDS, keep=2)
    for number in (ROUNDS - 1, ROUNDS):
        assert same(opened(tmp_path / "two").memories(number), play(tmp_path / f"until {number}", number)[1])


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_bytes(b"torn")], ids=["gone", "torn"]
)
def test_a_damaged_memory_is_as_bad_as_a_damaged_state(harm, tmp_path):
    expected = play(tmp_path / "in one go", ROUNDS)
    play(tmp_path, 5)
    last = max((tmp_path / "plan" / "key" / "memories").iterdir())
    number = int(last.name[:6])
    harm(last)
    with pytest.raises(DamagedError, match="memories"):
        opened(tmp_path).memories(5)
    journal = opened(tmp_path)
    assert taken_up(journal)[0].round == number - 1
    assert "memories" in journal.damaged[0]
    found = play(tmp_path, ROUNDS)
    assert found[0] == expected[0]
    assert same(found[1], expected[1])


def test_a_memory_that_comes_out_otherwise_is_refused_as_other_weights_are(tmp_path):
    play(tmp_path, 3)
    journal = opened(tmp_path)
    start = initial_state(ALGORITHM, ENGINE, 6)
    file(tmp_path, "states", 3).unlink()
    journal = opened(tmp_path)
    state, record = journal.resume(start), journal.recorded(3)
    assert state.round == 2
    wrong = {name: {"correction": np.ones(2, np.float32)} for name in record.record["memories"]}
    play(tmp_path / "elsewhere", 3)
    third = opened(tmp_path / "elsewhere").state(3, start)
    with pytest.raises(TrainingError, match="round 3: computed again"):
        journal.commit(third, {}, wrong)


def test_without_a_memory_nothing_is_written_and_nothing_recorded(tmp_path):
    play(tmp_path, 2)
    journal = Journal(str(tmp_path / "plain"), "plan", "key", KEY)
    plain = ALGORITHM.model_copy(update={"correction": Algorithm().correction})
    journal.commit(initial_state(plain, ENGINE, 6), {"identity": {}}, {})
    assert not (tmp_path / "plain" / "plan" / "key" / "memories").exists()
    assert "memories" not in journal.committed[0].record
    assert rounds_of(tmp_path / "plain", "records") == [0]
