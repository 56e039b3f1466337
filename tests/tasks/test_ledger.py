"""The privacy ledger: nothing is released that is not paid for, whoever asks, and whatever crashes."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federated.errors import InputError
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import Gaussian
from tasks.ledger import BudgetExceeded, Grant, PrivacyLedger, Terms
from tasks.signed_log import LedgerError
from tasks.signing import Signer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
TERMS = Terms(population="wards", unit="client", delta=1e-5, budget=1.0)
ONE = Gaussian(noise_multiplier=4.0, sampling_rate=0.5)
CHEAP = Gaussian(noise_multiplier=8.0, sampling_rate=0.5)
FIT = 3
"""So many of ``ONE`` are within the budget."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "privacy" / "wards.db"


def opened(path: Path, terms: Terms = TERMS) -> PrivacyLedger:
    return PrivacyLedger(path, terms, Signer(KEY))


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
        "epsilon",
        "spent",
        "runs",
        "entries",
        "head",
    }
    assert said.keys() == named
    assert said["epsilon"] == {"pld": 0.0, "rdp": 0.0}


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


def test_what_is_no_ledger_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("population,epsilon\n" * 100)
    with pytest.raises(InputError, match="expected a privacy ledger, it is none"):
        opened(path)


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
