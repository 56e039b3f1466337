"""The privacy ledger: what a data population has paid for, counted before anything more is told of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from federated.errors import InputError, TrainingError
from federated.privacy.accounting import Epsilon, SelfComposed
from federated.privacy.neighbours import Neighbours, unrecorded
from federated.privacy.releases import AnyRelease, Release
from tasks.balance import Balance, Counted, Line, Outlook, Terms
from tasks.signed_log import LedgerError, SignedLog
from tasks.signing import Signer, Trusted

_RELEASE: TypeAdapter[Release] = TypeAdapter(AnyRelease)


class BudgetExceeded(TrainingError):  # noqa: N818 - it is no error, but the end
    """One more release would cost more than the budget."""


class Grant(NamedTuple):
    """So many releases that are paid for; ``number`` is their entry's."""

    number: int
    release: Release
    run: str
    round: int
    attempt: int
    times: int

    @property
    def buys(self) -> tuple[str, int]:
        """Which round of which training it is for."""
        return self.run, self.round


class Statement(NamedTuple):
    """What was spent: never an ε without its unit, δ, neighbours and sampling, which ``balance`` has by release."""

    balance: Balance
    epsilon: Epsilon
    runs: tuple[str, ...]
    entries: int
    head: str

    @property
    def terms(self) -> Terms:
        """Whose privacy it is, and in what."""
        return self.balance.terms

    @property
    def spent(self) -> tuple[SelfComposed, ...]:
        """All that an accountant needs."""
        return self.balance.spent

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        assumed = {"relation": self.balance.relation, "sampling": self.balance.sampling, "means": self.balance.said}
        spent = [line.as_json() for line in self.balance.lines]
        counted = {"epsilon": self.epsilon.as_json(), **assumed, "spent": spent}
        return self.terms.model_dump() | counted | {"runs": self.runs, "entries": self.entries, "head": self.head}


class PrivacyLedger(SignedLog):
    """Append-only, signed and hash-chained, in SQLite: one for a data population, across trainings and processes.

    Guarantees: what is reserved is on disk before ``reserve`` returns, and counts as spent until it is committed or
    void, whatever crashes. No sequence of calls by any number of processes ends above the budget. A changed, swapped or
    missing entry is found when the ledger is read; a missing end, where ``head`` is compared with that of a statement.

    ==========================================  ==========================
    edge case                                   answer
    ==========================================  ==========================
    a crash between reserve and commit          spent
    the same run, round and attempt again       refused: noise is drawn anew, and paid for as another attempt
    an actual release that costs more           refused: the larger release stays reserved
    a release without noise                     infinite: refused by any budget, counted without one
    another unit, delta or budget than before   refused; ``amend`` changes the budget
    a budget that is lowered below what is spent  nothing more is released
    ==========================================  ==========================
    """

    def __init__(
        self,
        path: Path,
        terms: Terms | None,
        signer: Signer,
        trusted: Trusted | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        """Opens the ledger, or begins it on these ``terms``; without any it must have been begun.

        ``neighbours`` is what the releases are counted with that are paid for from here.

        Raises:
            InputError: it is on other terms, or no ledger.
            LedgerError: it was changed.
        """
        super().__init__(path, signer, trusted)
        self.neighbours = neighbours
        self._read_on()
        if not self._entries:
            self._open_on(terms)
        if terms is not None:
            self._require(terms)

    def amend(self, budget: float | None) -> None:
        """Another budget from now on, which is on record like everything else."""
        with self._transaction() as database:
            self._append(database, {"what": "amended", "budget": budget})

    def project(self, release: Release, times: int = 1) -> Epsilon:
        """What everything would cost, were ``release`` made so many times more. Spends nothing."""
        now = self.balance()
        return now._replace(lines=(*now.lines, Line(self.counted(release), times))).epsilon()

    def reserve(
        self, release: Release, run: str, round: int, attempt: int = 1, times: int = 1, *, buys: str = "the next round"
    ) -> Grant:
        """Pays for a release, or so many of them, before any is made; a refusal says what that ``buys``.

        Raises:
            ValueError: fewer than none.
            BudgetExceeded: it would cost more than is left.
            LedgerError: this attempt was paid for already.
        """
        if times < 0:
            raise ValueError(f"times must be at least 0, got {times}: void gives back what was not released")
        more = Line(self.counted(release), times)
        self._balance().fits(SelfComposed(release, times))  # nobody waits for what is counted here and remembered below
        with self._transaction() as database:
            if attempt in self._paid[run, round]:
                raise LedgerError(f"{self._path}: attempt {attempt} of round {round} of {run} is paid for already")
            now = self._balance()
            if not now.fits(SelfComposed(release, times)):
                raise BudgetExceeded(now.exceeded(more, buys))
            what = {"what": "reserved", "release": release.model_dump(), "times": times}
            what["neighbours"] = more.counted.neighbours.model_dump()
            self._append(database, what | {"run": run, "round": round, "attempt": attempt})
            return self._open[self._entries - 1]

    def commit(self, grant: Grant, actual: Release) -> None:
        """Says what was released, which may cost less than what was reserved.

        Raises:
            LedgerError: it costs more, or the grant is settled.
        """
        if not grant.release.covers(actual):
            raise LedgerError(f"{self._path}: {actual} costs more than what was reserved, {grant.release}")
        self._settle(grant, {"what": "committed", "grant": grant.number, "release": actual.model_dump()})

    def void(self, grant: Grant, reason: str) -> None:
        """Gives a grant back, of which nothing was released; ``reason`` says how that is known.

        Raises:
            LedgerError: the grant is settled.
        """
        self._settle(grant, {"what": "void", "grant": grant.number, "reason": reason})

    def remaining(self, release: Release) -> int | None:
        """How many such releases are left; None without a budget."""
        return self.balance().remaining(release)

    def outlook(self, release: Release, times: int = 1) -> Outlook:
        """Where the budget stands, for one who makes so many of this release again and again."""
        return self.balance().outlook(release, times)

    def attempts(self, run: str, round: int) -> int:
        """How often a round was paid for."""
        return len(self.paid(run, round))

    def paid(self, run: str, round: int) -> tuple[Release, ...]:
        """What was reserved for a round, or committed, each attempt at it."""
        self._read_on()
        return tuple(grant.release for grant in self._paid[run, round].values())

    def covers(self, run: str, round: int, more: SelfComposed) -> bool:
        """Whether an attempt at a round has paid for at least as much."""
        self._read_on()
        return any(
            grant.times >= more.times and grant.release.covers(more.release)
            for grant in self._paid[run, round].values()
        )

    def statement(self) -> Statement:
        """Everything that was spent, as of now."""
        now, end = self.balance(), self.end
        trainings = tuple(sorted({run for (run, _), attempts in self._paid.items() if attempts}))
        return Statement(now, now.epsilon(), trainings, *end)

    def fits(self, more: SelfComposed) -> bool:
        """Whether so much more is within the budget. Spends nothing."""
        return self.balance().fits(more)

    def spent(self) -> float:
        """ε so far, by the accountant that the budget goes by."""
        return self.balance().coarse()

    def balance(self) -> Balance:
        """What was spent, as of now; what is counted from it keeps nobody waiting."""
        self._read_on()
        return self._balance()

    def counted(self, release: Release) -> Counted:
        """A release, and what it is counted with where it is paid for from here."""
        return Counted(release, self.neighbours or unrecorded(release, self.terms.unit))

    def _balance(self) -> Balance:
        return Balance(self.terms, tuple(Line(counted, times) for counted, times in self._spent.items() if times))

    def _open_on(self, terms: Terms | None) -> None:
        if terms is None:
            raise InputError(f"{self._path}: expected a privacy ledger, it is none (it is empty)")
        with self._transaction() as database:
            if not self._entries:  # another may have been faster
                self._append(database, {"what": "opened", "terms": terms.model_dump()})

    def _settle(self, grant: Grant, said: dict[str, Any]) -> None:
        with self._transaction() as database:
            if self._open.get(grant.number) != grant:
                raise LedgerError(f"{self._path}: there is no open grant {grant.number}")
            self._append(database, said)

    def _forget(self) -> None:
        self._open: dict[int, Grant] = {}
        self._paid: defaultdict[tuple[str, int], dict[int, Grant]] = defaultdict(dict)
        self._spent: Counter[Counted] = Counter()
        self._counted_with: dict[int, Neighbours] = {}

    def _take(self, number: int, said: dict[str, Any]) -> None:
        what = said["what"]
        if what == "opened":
            self.terms = Terms.model_validate(said["terms"])
        elif what == "amended":
            self.terms = self.terms.model_copy(update={"budget": said["budget"]})
        elif what == "reserved":
            self._take_reserved(number, said)
        else:
            self._take_settled(self._open.pop(said["grant"]), said)

    def _take_reserved(self, number: int, said: dict[str, Any]) -> None:
        release = _RELEASE.validate_python(said["release"])
        grant = Grant(number, release, said["run"], said["round"], said["attempt"], said["times"])
        self._open[number] = self._paid[grant.buys][grant.attempt] = grant
        found = said.get("neighbours")
        told = unrecorded(release, self.terms.unit) if found is None else Neighbours.model_validate(found)
        self._counted_with[number] = told
        self._spent[Counted(release, told)] += grant.times

    def _take_settled(self, grant: Grant, said: dict[str, Any]) -> None:
        told = self._counted_with.pop(grant.number)
        self._spent[Counted(grant.release, told)] -= grant.times
        if said["what"] == "void":
            self._paid[grant.buys][grant.attempt] = grant._replace(times=0)
            return
        actual = _RELEASE.validate_python(said["release"])
        self._spent[Counted(actual, told)] += grant.times
        self._paid[grant.buys][grant.attempt] = grant._replace(release=actual)

    def _require(self, terms: Terms) -> None:
        found, asked = self.terms.model_dump(), terms.model_dump()
        for name in asked:
            if found[name] != asked[name]:
                hint = f"; roundhouse privacy {self._path} --set-budget changes it" if name == "budget" else ""
                raise InputError(f"{self._path}: begun with {name} {found[name]}, the plan has {asked[name]}{hint}")
