"""What the clients of a training pay for their records: each into a ledger of its own, which may refuse a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from configs.plan import Plan
from configs.privacy import meaning
from federated.data import Client
from federated.privacy.accounting import SelfComposed
from federated.rounds import steps_of
from federated.selectors import Selection
from tasks.ledger import BudgetExceeded, Grant, Outlook, PrivacyLedger
from tasks.signed_log import LedgerError
from tasks.spending import Spent, numbers_of

_NAMED = 200  # clients whose ledgers a record names
_REFUSED = "its privacy budget is spent"


class _Paid(NamedTuple):
    """What a client has paid for a round; ``grant`` is None where it was paid for before."""

    ledger: PrivacyLedger
    more: SelfComposed
    grant: Grant | None


class RecordSpending:
    """The ledgers of a training's clients. A record is in one of them: the largest ε is everybody's.

    A client that cannot pay for a round takes no part in it. Noise that a seed repeats is paid for once.
    """

    def __init__(
        self,
        plan: Plan,
        run: str,
        clients: Mapping[str, Client],
        ledger_of: Callable[[str], PrivacyLedger],
        has_ledger: Callable[[str], bool],
    ) -> None:
        """``has_ledger`` says whether a client has paid before, in this training or another."""
        self._plan, self._run, self._clients, self._ledger_of = plan, run, clients, ledger_of
        self._repeats = not plan.algorithm.secret
        self._ledgers: dict[str, PrivacyLedger] = {}
        self._epsilons: dict[str, float] = {}
        self._before = [name for name in clients if has_ledger(name)]
        self._done = set[str]()
        self._paid: dict[str, _Paid] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accountant")
        self._outlook: Future[Outlook] | None = None

    def enter(self, round: int) -> None:
        """Looks whether anybody can pay for a round.

        Raises:
            BudgetExceeded: nobody can.
        """
        for name in self._clients:
            if name not in self._done:
                if self._ledger(name).fits(self._cost(name, round)):
                    return
                self._done.add(name)
        raise BudgetExceeded(f"privacy budget: no client can pay for round {round} ({meaning(self._plan)})")

    def admit(self, round: int, selection: Selection) -> Selection:
        """The selection without those who cannot pay; all others have paid."""
        self._paid = {}
        for name in selection.cohort:
            try:
                self._paid[name] = self._pay(name, round)
            except BudgetExceeded:
                self._done.add(name)
        # Counted beside the training of the round.
        self._outlook = self._thread.submit(self._counted)
        refused = {name: _REFUSED for name in selection.cohort if name not in self._paid}
        return selection._replace(cohort=tuple(self._paid), reasons={**selection.reasons, **refused})

    def commit(self) -> Spent:
        """The round is over: what its clients have sent is out."""
        if self._outlook is None:
            raise LedgerError("a round was made that nobody has paid for")
        outlook, self._outlook = self._outlook.result(), None
        for paid in self._paid.values():
            if paid.grant is not None:
                paid.ledger.commit(paid.grant, paid.more.release)
        left = {"privacy_clients_left": float(len(self._clients) - len(self._done))}
        return Spent(numbers_of(outlook) | left, self._said(outlook))

    def _pay(self, name: str, round: int) -> _Paid:
        ledger, more = self._ledger(name), self._cost(name, round)
        before, grant = ledger.attempts(self._run, round), None
        if not before or not self._repeats:
            grant = ledger.reserve(more.release, self._run, round, before + 1, more.times)
        return _Paid(ledger, more, grant)

    def _cost(self, name: str, round: int) -> SelfComposed:
        algorithm, client = self._plan.algorithm, self._clients[name]
        return SelfComposed(algorithm.local.release(len(client.train)), steps_of(algorithm, round, client))

    def _counted(self) -> Outlook:
        """Of the client that has spent most."""
        changed = [*self._before, *self._paid]
        self._before = []
        self._epsilons |= {name: self._ledger(name).spent() for name in changed}
        if not self._epsilons:
            return Outlook(0.0, 0.0, None)
        worst = max(self._epsilons, key=lambda name: self._epsilons[name])
        return self._ledger(worst).outlook(*self._cost(worst, 1))

    def _ledger(self, name: str) -> PrivacyLedger:
        if name not in self._ledgers:
            self._ledgers[name] = self._ledger_of(name)
        return self._ledgers[name]

    def _said(self, outlook: Outlook) -> dict[str, Any]:
        privacy = self._plan.privacy
        named = {
            name: {"epsilon": self._epsilons[name], "entries": paid.ledger.end[0], "head": paid.ledger.end[1]}
            for name, paid in list(self._paid.items())[:_NAMED]
        }
        said = {"unit": "record", "epsilon": outlook.epsilon, "means": meaning(self._plan), "ledgers": named}
        return (privacy.model_dump() if privacy else {}) | said
