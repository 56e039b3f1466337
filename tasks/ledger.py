"""The privacy ledger: what a data population has paid for, counted before anything more is told of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, TypeAdapter

from federated.component import Component
from federated.errors import InputError, TrainingError
from federated.privacy.accounting import COARSE, RELATION, Epsilon, SelfComposed, affordable, epsilon, tight
from federated.privacy.releases import AnyRelease, Release, Unit
from tasks.signed_log import LedgerError, SignedLog
from tasks.signing import Signer, Trusted

_RELEASE: TypeAdapter[Release] = TypeAdapter(AnyRelease)


class BudgetExceeded(TrainingError):  # noqa: N818 - it is no error, but the end
    """One more release would cost more than the budget."""


class Terms(Component):
    """Whose privacy a ledger counts, and in what. Only the budget can change later, by ``amend``."""

    population: str = Field(min_length=1)
    unit: Unit
    delta: float = Field(gt=0, lt=1)
    budget: float | None = Field(default=None, gt=0, description="largest epsilon; null: counted without a limit")


class Grant(NamedTuple):
    """So many releases that are paid for; ``number`` is their entry's."""

    number: int
    release: Release
    run: str
    round: int
    attempt: int
    times: int


class Statement(NamedTuple):
    """What was spent: never an ε without its unit, δ, neighbours and sampling."""

    terms: Terms
    epsilon: Epsilon
    spent: tuple[SelfComposed, ...]
    runs: tuple[str, ...]
    entries: int
    head: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        spent = [{"release": release.model_dump(), "times": times} for release, times in self.spent]
        counted = {"epsilon": self.epsilon.as_json(), "relation": RELATION, "sampling": "poisson", "spent": spent}
        return self.terms.model_dump() | counted | {"runs": self.runs, "entries": self.entries, "head": self.head}


class Outlook(NamedTuple):
    """ε so far, ε were the same release made once more, and how often it still can be; None without a budget."""

    epsilon: float
    after_next: float
    remaining: int | None


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

    def __init__(self, path: Path, terms: Terms | None, signer: Signer, trusted: Trusted | None = None) -> None:
        """Opens the ledger, or begins it on these ``terms``; without any it must have been begun.

        Raises:
            InputError: it is on other terms, or no ledger.
            LedgerError: it was changed.
        """
        self._counted: tuple[tuple[Release, tuple[SelfComposed, ...]], int] | None = None
        super().__init__(path, signer, trusted)
        with self._transaction() as database:
            if not self._entries:
                if terms is None:
                    raise InputError(f"{path}: expected a privacy ledger, it is none (it is empty)")
                self._append(database, {"what": "opened", "terms": terms.model_dump(), "relation": RELATION})
            if terms is not None:
                self._require(terms)

    def amend(self, budget: float | None) -> None:
        """Another budget from now on, which is on record like everything else."""
        with self._transaction() as database:
            self._append(database, {"what": "amended", "budget": budget})

    def project(self, release: Release, times: int = 1) -> Epsilon:
        """What everything would cost, were ``release`` made so many times more. Spends nothing."""
        with self._transaction():
            return epsilon([*self._so_far(), SelfComposed(release, times)], self.terms.delta)

    def reserve(self, release: Release, run: str, round: int, attempt: int = 1, times: int = 1) -> Grant:
        """Pays for a release, or so many of them, before any is made.

        Raises:
            BudgetExceeded: it would cost more than is left.
            LedgerError: this attempt was paid for already.
        """
        with self._transaction() as database:
            if (run, round, attempt) in self._paid:
                raise LedgerError(f"{self._path}: attempt {attempt} of round {round} of {run} is paid for already")
            if not self._fits(SelfComposed(release, times)):
                raise BudgetExceeded(self._exceeded(SelfComposed(release, times)))
            what = {"what": "reserved", "release": release.model_dump(), "times": times}
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
        if self.terms.budget is None:
            return None
        with self._transaction():
            return max(self._left(release, self.terms.budget), 0)

    def outlook(self, release: Release, times: int = 1) -> Outlook:
        """Where the budget stands, for one who makes so many of this release again and again."""
        with self._transaction():
            budget = self.terms.budget
            now, after = self._with(SelfComposed(release, 0)), self._with(SelfComposed(release, times))
            return Outlook(now, after, None if budget is None else max(self._left(release, budget), 0) // times)

    @property
    def end(self) -> tuple[int, str]:
        """How many entries were read or written here, and the digest of the last."""
        return self._entries, self._head

    def attempts(self, run: str, round: int) -> int:
        """How often a round was paid for."""
        return len(self.paid(run, round))

    def paid(self, run: str, round: int) -> tuple[Release, ...]:
        """What was reserved for a round, each attempt at it."""
        with self._transaction():
            return tuple(release for paid, release in self._paid.items() if paid[:2] == (run, round))

    def statement(self) -> Statement:
        """Everything that was spent, as of now."""
        with self._transaction():
            runs = self._so_far()
            cost = epsilon(runs, self.terms.delta)
            trainings = tuple(sorted({run for run, _, _ in self._paid}))
            return Statement(self.terms, cost, tuple(runs), trainings, self._entries, self._head)

    def fits(self, more: SelfComposed) -> bool:
        """Whether so much more is within the budget. Spends nothing."""
        with self._transaction():
            return self._fits(more)

    def spent(self) -> float:
        """ε so far, by the accountant that the budget goes by."""
        with self._transaction():
            return tight(self._so_far(), self.terms.delta, COARSE)

    def _fits(self, more: SelfComposed) -> bool:
        budget = self.terms.budget
        if budget is None:
            return True
        if self._counted is not None and self._counted[0] == self._beside(more.release):
            return self._left(more.release, budget) >= more.times
        return self._with(more) <= budget

    def _with(self, more: SelfComposed) -> float:
        return tight([*self._so_far(), more], self.terms.delta, COARSE)

    def _left(self, release: Release, budget: float) -> int:
        """Counted once for what else was spent; each release then takes one of them."""
        beside = self._beside(release)
        if self._counted is None or self._counted[0] != beside:
            self._counted = beside, affordable(release, budget, self.terms.delta, beside[1], COARSE)
        return self._counted[1] - self._spent[release]

    def _beside(self, release: Release) -> tuple[Release, tuple[SelfComposed, ...]]:
        return release, tuple(run for run in self._so_far() if run.release != release)

    def _so_far(self) -> list[SelfComposed]:
        return [SelfComposed(release, times) for release, times in self._spent.items() if times]

    def _exceeded(self, more: SelfComposed) -> str:
        spent, after = tight(self._so_far(), self.terms.delta, COARSE), self._with(more)
        return (
            f"privacy budget of {self.terms.population}: epsilon {spent:.4g} is spent, the next round would make it "
            f"{after:.4g}, more than {self.terms.budget:g} "
            f"(unit {self.terms.unit}, delta {self.terms.delta:g}, {RELATION})"
        )

    def _settle(self, grant: Grant, said: dict[str, Any]) -> None:
        with self._transaction() as database:
            if self._open.get(grant.number) != grant:
                raise LedgerError(f"{self._path}: there is no open grant {grant.number}")
            self._append(database, said)

    def _forget(self) -> None:
        self._open: dict[int, Grant] = {}
        self._paid: dict[tuple[str, int, int], Release] = {}
        self._spent: Counter[Release] = Counter()

    def _take(self, number: int, said: dict[str, Any]) -> None:
        what = said["what"]
        if what == "opened":
            self.terms = Terms.model_validate(said["terms"])
        elif what == "amended":
            self.terms = self.terms.model_copy(update={"budget": said["budget"]})
            self._counted = None
        elif what == "reserved":
            release = _RELEASE.validate_python(said["release"])
            grant = Grant(number, release, said["run"], said["round"], said["attempt"], said["times"])
            self._open[number] = grant
            self._paid[said["run"], said["round"], said["attempt"]] = release
            self._spent[release] += grant.times
        else:
            grant = self._open.pop(said["grant"])
            self._spent[grant.release] -= grant.times
            if what == "committed":
                self._spent[_RELEASE.validate_python(said["release"])] += grant.times

    def _require(self, terms: Terms) -> None:
        found, asked = self.terms.model_dump(), terms.model_dump()
        for name in asked:
            if found[name] != asked[name]:
                hint = f"; roundhouse privacy {self._path} --set-budget changes it" if name == "budget" else ""
                raise InputError(f"{self._path}: begun with {name} {found[name]}, the plan has {asked[name]}{hint}")
