"""The privacy ledger: nothing is released that is not paid for, whoever asks, and whatever crashes."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federated.errors import InputError
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.calculator import answer
from federated.privacy.neighbours import Neighbours
from federated.privacy.releases import Gaussian, Unit
from tasks import balance, signed_log
from tasks.ledger import BudgetExceeded, Grant, PrivacyLedger, Terms
from tasks.signed_log import LedgerError
from tasks.signing import Signer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TERMS = Terms(population="wards", unit="client", delta=1e-5, budget=1.0)
ONE = Gaussian(noise_multiplier=4.0, sampling_rate=0.5)
CHEAP = Gaussian(noise_multiplier=8.0, sampling_rate=0.5)
FINE = Gaussian(noise_multiplier=40.0, sampling_rate=0.5)
FIT = 3
"""So many of ``ONE`` are within the budget."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "wards.db"


def opened(path: Path, terms: Terms = TERMS, neighbours: Neighbours | None = None) -> PrivacyLedger:
    return PrivacyLedger(path, terms, Signer(KEY), neighbours=neighbours)


def spent(*runs: tuple[Gaussian, int]) -> float:
    return epsilon([SelfComposed(*run) for run in runs], TERMS.delta).best


def test_a_budget_once_spent_refuses_the_next_round_and_spends_nothing_by_it(path: Path) -> None:
    ledger = opened(path)
    for number in range(1, FIT + 1):
        assert ledger.remaining(ONE) == FIT + 1 - number
        ledger.commit(ledger.reserve(ONE, "run", number), ONE)
    said = (
        r"^privacy budget of wards: epsilon 0\.\d+ is spent, the next round would make it 1\.\d+, more than 1 \(unit c"
    )
    for _ in range(2):
        with pytest.raises(BudgetExceeded, match=said):
            ledger.reserve(ONE, "run", FIT + 1)
    assert ledger.statement().spent == (SelfComposed(ONE, FIT),)
    assert ledger.statement().epsilon.best == spent((ONE, FIT)) <= 1.0 < spent((ONE, FIT + 1))
    assert ledger.remaining(ONE) == 0


def test_trainings_of_one_population_share_it(path: Path) -> None:
    opened(path).reserve(ONE, "yesterday", 1)
    ledger = opened(path)
    assert ledger.remaining(ONE) == FIT - 1
    ledger.reserve(ONE, "today", 1)
    assert ledger.statement().runs == ("today", "yesterday")
    assert ledger.attempts("today", 1) == 1
    assert ledger.attempts("today", 2) == 0


def test_what_is_not_committed_is_spent_and_what_is_void_is_not(path: Path) -> None:
    ledger = opened(path)
    kept, back, cheaper = (ledger.reserve(ONE, "run", number) for number in (1, 2, 3))
    ledger.void(back, "nobody was there")
    ledger.commit(cheaper, CHEAP)
    assert sorted(ledger.statement().spent, key=str) == sorted([SelfComposed(ONE, 1), SelfComposed(CHEAP, 1)], key=str)
    for settled in (back, cheaper, kept._replace(round=9)):
        with pytest.raises(LedgerError, match="there is no open grant"):
            ledger.void(settled, "again")
    with pytest.raises(LedgerError, match="costs more than what was reserved"):
        ledger.commit(kept, Gaussian(noise_multiplier=1.0, sampling_rate=0.5))
    assert SelfComposed(ONE, 1) in ledger.statement().spent


def test_an_attempt_is_paid_for_once_and_the_next_one_again(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    with pytest.raises(LedgerError, match="attempt 1 of round 1 of run is paid for already"):
        ledger.reserve(ONE, "run", 1)
    ledger.reserve(ONE, "run", 1, attempt=2)
    assert ledger.statement().spent == (SelfComposed(ONE, 2),)


def test_to_look_ahead_spends_nothing(path: Path) -> None:
    ledger = opened(path)
    assert ledger.project(ONE, 5).best == spent((ONE, 5))
    assert ledger.statement().epsilon.best == 0
    assert ledger.statement().entries == 1


def test_without_a_budget_it_only_counts(path: Path) -> None:
    ledger = opened(path, TERMS.model_copy(update={"budget": None}))
    ledger.reserve(Gaussian(noise_multiplier=0), "run", 1)
    assert ledger.statement().epsilon.best == np.inf
    assert json.loads(json.dumps(ledger.statement().as_json(), allow_nan=False))["epsilon"]["pld"] == "infinite"
    assert ledger.remaining(ONE) is None


def test_no_noise_is_within_no_budget(path: Path) -> None:
    with pytest.raises(BudgetExceeded, match="would make it inf"):
        opened(path).reserve(Gaussian(noise_multiplier=0), "run", 1)


def test_a_statement_says_what_its_epsilon_means(path: Path) -> None:
    said = opened(path).statement().as_json()
    named = {
        "population",
        "unit",
        "delta",
        "budget",
        "relation",
        "sampling",
        "means",
        "epsilon",
        "spent",
        "runs",
        "entries",
        "head",
    }
    assert said.keys() == named
    assert said["epsilon"] == {"pld": 0.0, "rdp": 0.0}
    assert said["means"] == "nothing was released"


ADDED = Neighbours(relation="add_or_remove_one", said="one client, added or removed")
ZEROED = Neighbours(relation="zero_out", said="what one client sends, or a zero update in its place")
ALWAYS = Gaussian(noise_multiplier=16.0)


def test_every_release_says_what_it_is_counted_with_and_all_of_them_what_holds_for_each(path: Path) -> None:
    opened(path, neighbours=ADDED).reserve(ONE, "drawn", 1)
    alone = opened(path).statement().as_json()
    assert (alone["relation"], alone["sampling"]) == ("add_or_remove_one", "poisson")
    assert alone["means"] == "one client, added or removed; Poisson sampling"
    ledger = opened(path, neighbours=ZEROED)
    ledger.commit(ledger.reserve(ALWAYS, "sent", 1, times=2), ALWAYS)
    for said in (ledger.statement().as_json(), opened(path).statement().as_json()):
        each = [(line["times"], line["relation"], line["neighbours"], line["sampling"]) for line in said["spent"]]
        assert each == [(1, ADDED.relation, ADDED.said, "poisson"), (2, ZEROED.relation, ZEROED.said, "none")]
        assert (said["relation"], said["sampling"]) == ("zero_out", "poisson")
        assert all(text in said["means"] for text in ("zeros are in the place of", ADDED.said, ZEROED.said))
        assert said["epsilon"]["pld"] == spent((ONE, 1), (ALWAYS, 2))


def test_equal_releases_that_are_counted_with_other_neighbours_are_told_apart_and_cost_the_same(path: Path) -> None:
    for neighbours in (ADDED, ZEROED):
        opened(path, neighbours=neighbours).reserve(ALWAYS, neighbours.relation, 1)
    found = opened(path).statement()
    assert [line.counted.neighbours for line in found.balance.lines] == [ADDED, ZEROED]
    assert found.spent == (SelfComposed(ALWAYS, 2),)


def test_a_budget_that_is_met_says_what_its_epsilon_is_of(path: Path) -> None:
    ledger = opened(path, neighbours=ZEROED)
    with pytest.raises(BudgetExceeded, match=r"\(unit client, delta 1e-05; what one client sends, .*; no sampling\)$"):
        ledger.reserve(Gaussian(noise_multiplier=1.0), "run", 1)
    opened(path, neighbours=ADDED).reserve(ONE, "run", 2)
    with pytest.raises(BudgetExceeded, match=r"one client, added or removed; Poisson sampling \| what one client"):
        ledger.reserve(Gaussian(noise_multiplier=1.0), "run", 1)


@pytest.mark.parametrize(
    ("unit", "release", "relation", "sampling"),
    [
        ("client", ONE, "add_or_remove_one", "poisson"),
        ("client", ALWAYS, "zero_out", "none"),
        ("record", ONE, "zero_out", "poisson"),
    ],
)
def test_what_an_older_ledger_does_not_say_is_what_holds_in_any_case(
    path: Path, unit: Unit, release: Gaussian, relation: str, sampling: str
) -> None:
    terms = TERMS.model_copy(update={"unit": unit})
    ledger = opened(path, terms)
    with ledger._transaction() as database:
        said = {"what": "reserved", "release": release.model_dump(), "times": 2}
        ledger._append(database, said | {"run": "old", "round": 1, "attempt": 1})
    found = opened(path, terms).statement().as_json()
    assert (found["relation"], found["sampling"]) == (relation, sampling)
    assert found["spent"][0]["times"] == 2


def test_a_round_is_covered_by_what_cost_as_much_and_by_nothing_that_was_given_back(path: Path) -> None:
    ledger = opened(path, TERMS.model_copy(update={"budget": None}))
    ledger.reserve(ONE, "run", 1, times=3)
    assert ledger.covers("run", 1, SelfComposed(ONE, 3))
    assert ledger.covers("run", 1, SelfComposed(CHEAP, 1))
    assert not ledger.covers("run", 1, SelfComposed(ONE, 4))
    assert not ledger.covers("run", 1, SelfComposed(Gaussian(noise_multiplier=1.0, sampling_rate=0.5), 1))
    assert not ledger.covers("run", 2, SelfComposed(ONE, 1))
    ledger.commit(ledger.reserve(ONE, "run", 2), CHEAP)
    assert not ledger.covers("run", 2, SelfComposed(ONE, 1))
    assert ledger.covers("run", 2, SelfComposed(CHEAP, 1))
    ledger.void(ledger.reserve(ONE, "run", 3), "nobody was there")
    assert not ledger.covers("run", 3, SelfComposed(ONE, 1))
    assert ledger.attempts("run", 3) == 1


def reads(ledger: PrivacyLedger) -> None:
    """Everything that can be asked, and nothing that is paid."""
    more = SelfComposed(ONE, 1)
    assert ledger.statement().spent == (SelfComposed(ONE, 1),)
    assert ledger.remaining(ONE) == FIT - 1
    assert (ledger.fits(more), ledger.covers("run", 1, more), ledger.attempts("run", 1)) == (True, True, 1)
    assert ledger.outlook(ONE).epsilon == ledger.spent() <= ledger.project(ONE).best


def test_readers_do_not_wait_for_a_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    monkeypatch.setattr(signed_log, "_WAIT", 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        reads(ledger)
        reads(opened(path))
        writer.execute("ROLLBACK")


def test_who_pays_waits_for_another_writer_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two could count the same remainder, each before the other's entry is there."""
    ledger = opened(path)
    monkeypatch.setattr(signed_log, "_WAIT", 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        for pays in (lambda: ledger.reserve(ONE, "run", 1), lambda: ledger.amend(9.0)):
            with pytest.raises(LedgerError, match="database is locked"):
                pays()
        writer.execute("ROLLBACK")
    ledger.reserve(ONE, "run", 1)


def test_nobody_else_writes_from_when_a_payment_is_counted_until_it_is_on_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, refused = opened(path), list[bool]()
    fits = balance.Balance.fits

    def counting(self: balance.Balance, more: SelfComposed) -> bool:
        with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                refused.append(False)
            except sqlite3.OperationalError:
                refused.append(True)
        return fits(self, more)

    monkeypatch.setattr(balance.Balance, "fits", counting)
    ledger.reserve(ONE, "run", 1)
    assert refused == [False, True], "first for nobody to wait for, then to decide"


def test_a_writer_does_not_wait_for_what_a_reader_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, other, counted = opened(path), opened(path), list[str]()

    def slow(count: Callable[..., object]) -> Callable[..., object]:
        def counting(*given: object) -> object:
            if count.__name__ not in counted:
                counted.append(count.__name__)
                other.reserve(ONE, count.__name__, 1)
            return count(*given)

        return counting

    monkeypatch.setattr(signed_log, "_WAIT", 0)
    for count in (balance.epsilon, balance.tight, balance.affordable):
        monkeypatch.setattr(balance, count.__name__, slow(count))
    ledger.statement()
    ledger.spent()
    ledger.remaining(Gaussian(noise_multiplier=4.0, sampling_rate=0.25))
    assert counted == ["epsilon", "tight", "affordable"]
    assert opened(path).statement().runs == ("affordable", "epsilon", "tight")


def test_what_a_ledger_once_had_it_must_have_still(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    seen, copy = ledger.end, path.read_bytes()
    ledger.reserve(ONE, "run", 2)
    opened(path).require_end(seen)
    opened(path).require_end(ledger.end)
    later = ledger.end
    path.write_bytes(copy)
    opened(path).require_end(seen)
    said = f"records of rounds have seen 3 entries of it, up to {later.head[:16]}, and they are not there"
    with pytest.raises(LedgerError, match=said):
        opened(path).require_end(later)
    opened(path).reserve(CHEAP, "run", 2)
    with pytest.raises(LedgerError, match="it was removed or set back; restore the file from its backup"):
        opened(path).require_end(later)


def test_a_ledger_that_is_gone_is_not_begun_anew_by_those_who_had_it(path: Path) -> None:
    ledger = opened(path)
    path.unlink()
    for asks in (ledger.statement, lambda: ledger.reserve(ONE, "run", 1)):
        with pytest.raises(LedgerError, match="it is gone; restore the file from its backup"):
            asks()
    assert not path.exists()


def test_a_round_reads_no_more_than_what_is_new_however_many_there_were(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, number = list[object](), itertools.count()
    whole = signed_log.read_signed
    monkeypatch.setattr(signed_log, "read_signed", lambda *given: read.append(given) or whole(*given))
    ledger, other = opened(path), opened(path)

    def entries_read(payer: PrivacyLedger) -> int:
        read.clear()
        payer.commit(payer.reserve(FINE, "run", next(number)), FINE)
        payer.outlook(FINE)
        return len(read)

    assert [entries_read(ledger) for _ in range(50)] == [2] * 50, "the two that it wrote"
    assert entries_read(other) == 102, "and once what another wrote"
    assert entries_read(other) == 2


def test_no_statement_walks_through_all_entries(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, asked, connect = opened(path), set[str](), sqlite3.connect

    def traced(*given: Any, **named: Any) -> sqlite3.Connection:
        found = connect(*given, **named)
        found.set_trace_callback(asked.add)
        return found

    monkeypatch.setattr(sqlite3, "connect", traced)
    ledger.commit(ledger.reserve(ONE, "run", 1), ONE)
    monkeypatch.undo()
    selects = [statement for statement in asked if statement.startswith("SELECT") and "FROM entries" in statement]
    assert len(selects) >= 2
    with contextlib.closing(sqlite3.connect(path)) as database:
        for select in selects:
            plan = [row[-1] for row in database.execute(f"EXPLAIN QUERY PLAN {select}")]
            assert not [step for step in plan if step.startswith("SCAN")], select


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_no_sequence_of_calls_and_crashes_ends_above_the_budget(path: Path, seed: int) -> None:
    """Several processes' views of one ledger, which forget everything when they crash."""
    rng = np.random.default_rng(seed)
    ledgers = [opened(path) for _ in range(3)]
    grants = list[Grant]()
    held = {"reserved": 0, "refused": 0}
    for number in range(40):
        place = int(rng.integers(3))
        match rng.choice(["reserve", "reserve", "reserve", "commit", "void", "crash"]):
            case "reserve":
                try:
                    release = ONE if rng.random() < 0.7 else CHEAP
                    grants.append(ledgers[place].reserve(release, f"run {place}", number))
                    held["reserved"] += 1
                except BudgetExceeded:
                    held["refused"] += 1
            case "commit" if grants:
                grant = grants.pop(int(rng.integers(len(grants))))
                ledgers[place].commit(grant, CHEAP if rng.random() < 0.5 else grant.release)
            case "void" if grants and rng.random() < 0.3:
                ledgers[place].void(grants.pop(), "nothing left")
            case _:
                ledgers[place] = opened(path)
    assert held["refused"] > 0
    assert opened(path).statement().epsilon.best <= 1.0
    assert len({ledger.statement() for ledger in ledgers}) == 1


def reserve_all(path: Path, name: str) -> int:
    """In a process of its own: until nothing is left."""
    ledger, count = opened(path), 0
    while True:
        try:
            ledger.reserve(ONE, name, count)
        except BudgetExceeded:
            return count
        count += 1


def test_two_processes_cannot_spend_the_same_remainder(path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        counts = pool.starmap(reserve_all, [(path, "one"), (path, "other")])
    assert sum(counts) == FIT
    assert opened(path).statement().spent == (SelfComposed(ONE, FIT),)


def dies_after_reserving(path: Path) -> None:
    """As kill -9 would, with the answer not yet given."""
    opened(path).reserve(ONE, "killed", 1)
    os._exit(9)


def test_a_reservation_outlives_the_process_that_made_it(path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=dies_after_reserving, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert opened(path).statement().spent == (SelfComposed(ONE, 1),)


def releases_until_killed(path: Path, seed: int) -> None:
    """Pays, releases (a line in a file) or gives back, and says so; until nothing is left."""
    rng, ledger = np.random.default_rng(seed), opened(path)
    with path.with_suffix(".released").open("a") as released, contextlib.suppress(BudgetExceeded):
        for number in range(10_000):
            grant = ledger.reserve(FINE, f"training {seed}", number)
            if rng.random() < 0.2:
                ledger.void(grant, "nobody was drawn")
                continue
            released.write(f"{seed} {number}\n")
            released.flush()
            if rng.random() < 0.8:
                ledger.commit(grant, FINE)


def kill_again_and_again(path: Path) -> None:
    """Two at a time, which pay from one ledger; a pair is killed wherever it stands, the last one ends by itself."""
    rng, fork = np.random.default_rng(0), multiprocessing.get_context("fork")
    opened(path).project(FINE)  # what is imported late is imported
    path.with_suffix(".released").touch()
    for seed in range(0, 24, 2):
        pair = [fork.Process(target=releases_until_killed, args=(path, seed + more)) for more in (0, 1)]
        for process in pair:
            process.start()
        if seed < 22:
            before = path.with_suffix(".released").stat().st_size
            while path.with_suffix(".released").stat().st_size == before and pair[0].is_alive():
                time.sleep(0.001)
            time.sleep(0.05 * rng.random())
            for process in pair:
                process.kill()
        for process in pair:
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL)


def test_whoever_is_killed_wherever_it_stands_all_that_was_released_is_paid_for_within_the_budget(path: Path) -> None:
    alone = multiprocessing.get_context("spawn").Process(target=kill_again_and_again, args=(path,))
    alone.start()
    alone.join()
    assert alone.exitcode == 0
    statement = opened(path).statement()
    ((_, times),) = statement.spent
    lines = path.with_suffix(".released").read_text().splitlines()
    made = len({line.split()[0] for line in lines})
    assert made > 10, "most were killed after they had released something"
    assert len(lines) == len(set(lines)) <= times, "a crash after paying costs a release, and never gives one away"
    assert statement.epsilon.best <= 1.0 < spent((FINE, times + 1))


def execute(path: Path, command: str, *values: object) -> None:
    with sqlite3.connect(path) as database:
        database.execute(command, values)
    database.close()


def forge(path: Path) -> None:
    stranger = opened(path.with_name("other.db"), TERMS)
    stranger._signer = Signer(Ed25519PrivateKey.generate())
    with sqlite3.connect(path.with_name("other.db")) as database:
        (signed,) = database.execute("SELECT signed FROM entries").fetchone()
    database.close()
    execute(path, "UPDATE entries SET signed = ? WHERE number = 2", signed)


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (
            lambda path: execute(path, "UPDATE entries SET signed = replace(signed, '4.0', '9.0') WHERE number = 2"),
            "it was changed",
        ),
        (lambda path: execute(path, "DELETE FROM entries WHERE number = 1"), "entry 2 does not follow"),
        (forge, "entry 2 does not follow"),
        (
            lambda path: execute(path, "UPDATE entries SET number = -number WHERE number in (1, 2)"),
            "does not follow",
        ),
    ],
    ids=["changed", "removed", "another's", "moved"],
)
def test_tampering_is_found(path: Path, tamper: Callable[[Path], None], said: str) -> None:
    ledger = opened(path)
    for number in (1, 2, 3):
        ledger.reserve(ONE, "run", number)
    tamper(path)
    with pytest.raises(LedgerError, match=said):
        opened(path)


def test_a_ledger_signed_by_another_key_is_found(path: Path) -> None:
    opened(path).reserve(ONE, "run", 1)
    with pytest.raises(LedgerError, match="entry 0: it is signed by the key"):
        PrivacyLedger(path, TERMS, Signer(Ed25519PrivateKey.generate()))


def test_an_end_that_is_missing_is_found_by_those_who_saw_it(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    before = ledger.statement()
    execute(path, "DELETE FROM entries WHERE number = 1")
    with pytest.raises(LedgerError, match="entries are missing from its end"):
        ledger.statement()
    assert opened(path).statement().head != before.head


@pytest.mark.parametrize("change", [{"delta": 1e-6}, {"unit": "record"}, {"budget": 3.0}, {"population": "others"}])
def test_other_terms_are_refused(path: Path, change: dict[str, object]) -> None:
    opened(path)
    (name,) = change
    with pytest.raises(InputError, match=f"begun with {name} {getattr(TERMS, name)}, the plan has {change[name]}"):
        opened(path, TERMS.model_copy(update=change))


def test_a_budget_is_changed_on_record(path: Path) -> None:
    ledger, other = opened(path), opened(path)
    for number in range(FIT):
        ledger.reserve(ONE, "run", number)
    with pytest.raises(BudgetExceeded):
        ledger.reserve(ONE, "run", FIT)
    other.amend(5.0)
    ledger.reserve(ONE, "run", FIT)
    assert ledger.terms.budget == 5.0
    with pytest.raises(InputError, match=rf"begun with budget 5.0, the plan has 1.0; roundhouse privacy {path} --set"):
        opened(path)
    reread = opened(path, TERMS.model_copy(update={"budget": 5.0}))
    assert reread.statement().entries == FIT + 3
    reread.amend(0.5)
    assert reread.remaining(ONE) == 0
    with pytest.raises(BudgetExceeded):
        ledger.reserve(CHEAP, "run", FIT + 1)


def test_the_outlook_is_what_a_round_more_would_cost(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    now, after, left = ledger.outlook(ONE)
    assert spent((ONE, 1)) <= now <= spent((ONE, 1)) + 1e-3, "rounded up, and by little"
    assert spent((ONE, 2)) <= after <= spent((ONE, 2)) + 1e-3
    assert left == FIT - 1
    assert opened(path.with_name("free.db"), TERMS.model_copy(update={"budget": None})).outlook(ONE).remaining is None


def test_a_ledger_buys_as_many_rounds_as_the_calculator_promises_and_no_epsilon_of_it_says_otherwise(
    path: Path,
) -> None:
    """1202 is the published number; 1202 rounds counted coarsely are more than the budget."""
    release = Gaussian(noise_multiplier=1.0, sampling_rate=0.01)
    ledger = opened(path, TERMS.model_copy(update={"budget": 2.0}))
    promised = answer(0.01, TERMS.delta, noise_multiplier=1.0, budget=2.0).rounds
    assert ledger.remaining(release) == promised == 1202
    ledger.reserve(release, "run", 1, times=promised - 1)
    now, after, left = ledger.outlook(release)
    assert now <= after <= 2.0
    assert left == 1
    ledger.reserve(release, "run", 2)
    now, after, left = ledger.outlook(release)
    assert ledger.statement().epsilon.best <= now <= 2.0 < ledger.project(release).best <= after
    assert left == 0
    with pytest.raises(BudgetExceeded, match=r"epsilon 2 is spent, the next round would make it 2\.001, more than 2 "):
        ledger.reserve(release, "run", 3)
    assert ledger.statement().spent == (SelfComposed(release, promised),)


def test_what_is_no_ledger_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("population,epsilon\n" * 100)
    with pytest.raises(InputError, match="expected a privacy ledger, it is none"):
        opened(path)


def test_a_ledger_that_the_disk_has_spoilt_and_another_programs_table_are_named(path: Path) -> None:
    ledger = opened(path)
    for number in range(100):
        ledger.reserve(FINE, "run", number)
    whole = bytearray(path.read_bytes())
    whole[4096:-4096] = bytes(len(whole) - 8192)
    path.write_bytes(whole)
    with pytest.raises(
        InputError, match=rf"{path}: expected a privacy ledger, it is none \(database disk image is malf"
    ):
        opened(path)
    path.unlink()
    execute(path, "CREATE TABLE entries (name TEXT)")
    with pytest.raises(LedgerError, match=f"{path}: no such column: number"):
        opened(path)


def test_less_than_nothing_is_not_reserved(path: Path) -> None:
    ledger = opened(path)
    ledger.reserve(ONE, "run", 1)
    with pytest.raises(ValueError, match="times must be at least 0, got -1"):
        ledger.reserve(ONE, "run", 2, times=-1)
    assert opened(path).statement().spent == (SelfComposed(ONE, 1),)


def test_nobody_else_reads_it(path: Path) -> None:
    opened(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_write_that_fails_is_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, take = opened(path), PrivacyLedger._take

    def breaks_off(self: PrivacyLedger, number: int, said: dict[str, object]) -> None:
        take(self, number, said)
        raise OSError("disk full")

    monkeypatch.setattr(PrivacyLedger, "_take", breaks_off)
    with pytest.raises(OSError, match="disk full"):
        ledger.reserve(ONE, "run", 1)
    monkeypatch.undo()
    assert ledger.statement().spent == ()
    assert ledger.reserve(ONE, "run", 1).number == 1
