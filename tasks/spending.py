"""What the rounds of a training pay: reserved before a round begins, committed when its noise is out."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from federated.component import Metrics
from federated.privacy.accounting import SelfComposed
from federated.privacy.releases import Release
from federated.selectors import Selection
from tasks.balance import Outlook
from tasks.ledger import Grant, PrivacyLedger
from tasks.signed_log import LedgerError


class Spent(NamedTuple):
    """Where the budget stands after a round: numbers for MLflow, and what the round's record says."""

    metrics: Metrics
    said: dict[str, Any]


class _Begun(NamedTuple):
    """A round that is paid for: its grant, None where it was paid for before; and what it leaves, once counted."""

    round: int
    grant: Grant | None
    outlook: Future[Outlook]


class Spending(Protocol):
    """What a training pays, round by round: enter, admit, commit."""

    def enter(self, round: int) -> None:
        """Before a round, of which nothing is known yet; once more changes nothing.

        Raises:
            BudgetExceeded: it cannot be paid for.
        """

    def admit(self, round: int, selection: Selection) -> Selection:
        """Who of a selection takes part."""

    def commit(self) -> Spent:
        """The round is over."""


class ClientSpending:
    """One training's part in the ledger of its population.

    Noise that a seed repeats is paid for once, however often its round is computed: again only where it has become
    a release that costs more.
    """

    def __init__(self, run: str, release: Release, ledger: PrivacyLedger, *, repeats: bool, means: str) -> None:
        self._run, self._release, self._ledger = run, release, ledger
        self._repeats, self._means = repeats, means
        self._begun: _Begun | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accountant")

    def enter(self, round: int) -> None:
        """Pays for a round; not again where that was done and the round was not made.

        Raises:
            BudgetExceeded: it would cost more than is left.
        """
        if self._begun is not None and self._begun.round == round:
            return
        grant = None
        if not (self._repeats and self._ledger.covers(self._run, round, SelfComposed(self._release, 1))):
            attempt = self._ledger.attempts(self._run, round) + 1
            grant = self._ledger.reserve(self._release, self._run, round, attempt)
        # Counted beside the training of the round.
        self._begun = _Begun(round, grant, self._thread.submit(self._ledger.outlook, self._release))

    def admit(self, round: int, selection: Selection) -> Selection:
        """Everybody: all have paid."""
        return selection

    def commit(self) -> Spent:
        """The noise of the round that is paid for is out."""
        if self._begun is None:
            raise LedgerError("a round was made that nobody has paid for")
        begun, self._begun = self._begun, None
        outlook = begun.outlook.result()
        if begun.grant is not None:
            self._ledger.commit(begun.grant, self._release)
        return Spent(numbers_of(outlook), said_of(self._ledger, self._release, outlook.epsilon, self._means))


def said_of(ledger: PrivacyLedger, release: Release, epsilon: float, means: str) -> dict[str, Any]:
    """For a round's record. ``means`` is what ε is one of, were nothing paid for but the training's own releases."""
    assumed, (entries, head) = assumed_of(ledger, release, means), ledger.end
    said = {"epsilon": epsilon, **assumed, "release": release.model_dump()}
    return ledger.terms.model_dump() | said | {"entries": entries, "head": head}


def assumed_of(ledger: PrivacyLedger, release: Release, means: str) -> dict[str, str]:
    """What the ε of a ledger is one of, for a training that makes this release: ``means``, and what is beside it."""
    now = ledger.balance()
    also = now.beside(ledger.counted(release))
    return {"means": means + also, "relation": now.relation, "sampling": now.sampling}


def numbers_of(outlook: Outlook) -> Metrics:
    """For MLflow."""
    left = {} if outlook.remaining is None else {"privacy_rounds_left": float(outlook.remaining)}
    return {"epsilon": outlook.epsilon, "epsilon_next": outlook.after_next} | left
