"""What the clients of a training pay for their records: each into a ledger of its own, which may refuse a round."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

from configs.plan import Plan
from configs.privacy import meaning
from federated.data import Client
from federated.privacy.accounting import SelfComposed
from federated.rounds import steps_of
from federated.selectors import Selection
from tasks.balance import Outlook
from tasks.ledger import BudgetExceeded, Grant, PrivacyLedger
from tasks.signed_log import LedgerError
from tasks.spending import Spent, assumed_of, numbers_of

_NAMED = 200  # clients whose ledgers a record names
_REFUSED = "its privacy budget is spent"
_TOO_FEW = "too few others can pay for the round"


class _Paid(NamedTuple):
    """What a client has paid for a round; ``grant`` is None where it was paid for before."""

    ledger: PrivacyLedger
    more: SelfComposed
    grant: Grant | None


class _Worst(NamedTuple):
    """Of the client that has spent most: where its budget stands, and what its ε is one of."""

    outlook: Outlook
    assumed: dict[str, str]


class RecordSpending:
    """The ledgers of a training's clients. A record is in one of them: the largest ε is everybody's.

    A client that cannot pay for a round takes no part in it, and where those who can are too few, nobody pays. Noise
    that a seed repeats is paid for once.
    """

    def __init__(
        self,
        plan: Plan,
        run: str,
        clients: Mapping[str, Client],
        ledger_of: Callable[[str], PrivacyLedger],
        paid_before: Iterable[str],
    ) -> None:
        """``paid_before`` names clients that have paid, in this training or another; some may have left since.

        Raises:
            LedgerError: the ledger of one that has left was changed, removed or set back.
        """
        self._plan, self._run, self._clients, self._ledger_of = plan, run, clients, ledger_of
        self._repeats = not plan.algorithm.secret
        self._ledgers: dict[str, PrivacyLedger] = {}
        self._epsilons: dict[str, float] = {}
        self._before = sorted(paid_before)
        self._done = set[str]()
        self._paid: dict[str, _Paid] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accountant")
        self._outlook: Future[_Worst] | None = None
        for name in self._before:
            if name not in clients:
                self._ledger(name)

    def enter(self, round: int) -> None:
        """Looks whether as many clients as a round needs can pay for it: with fewer, none is made any more.

        Raises:
            BudgetExceeded: they cannot.
        """
        needed = max(1, self._plan.needed)
        able = len(list(islice(self._able(round), needed)))
        if able < needed:
            who = f"{able} of {needed} clients that are needed" if able else "no client"
            raise BudgetExceeded(f"privacy budget: {who} can pay for round {round} ({meaning(self._plan)})")

    def admit(self, round: int, selection: Selection) -> Selection:
        """The selection without those who cannot pay. All others have paid; or nobody, where they are too few."""
        able = [name for name in selection.cohort if self._can_pay(name, round)]
        self._done |= set(selection.cohort) - set(able)
        self._paid = self._all_pay(able, round)
        # Counted beside the training of the round.
        self._outlook = self._thread.submit(self._counted)
        why = {name: _TOO_FEW if name in able else _REFUSED for name in selection.cohort if name not in self._paid}
        return selection._replace(cohort=tuple(self._paid), reasons={**selection.reasons, **why})

    def commit(self) -> Spent:
        """The round is over: what its clients have sent is out."""
        if self._outlook is None:
            raise LedgerError("a round was made that nobody has paid for")
        worst, self._outlook = self._outlook.result(), None
        for paid in self._paid.values():
            if paid.grant is not None:
                paid.ledger.commit(paid.grant, paid.more.release)
        left = {"privacy_clients_left": float(len(self._clients) - len(self._done))}
        return Spent(numbers_of(worst.outlook) | left, self._said(worst))

    def _able(self, round: int) -> Iterator[str]:
        """Who can pay for a round. As many are asked as the caller takes: each is counted for."""
        for name in self._clients:
            if name not in self._done:
                if self._can_pay(name, round):
                    yield name
                else:
                    self._done.add(name)

    def _can_pay(self, name: str, round: int) -> bool:
        return self._has_paid(name, round) or self._ledger(name).fits(self._cost(name, round))

    def _has_paid(self, name: str, round: int) -> bool:
        """For the same noise, which nobody pays for twice."""
        return self._repeats and self._ledger(name).covers(self._run, round, self._cost(name, round))

    def _all_pay(self, able: Sequence[str], round: int) -> dict[str, _Paid]:
        """Nobody does for a round that would be broken off."""
        if len(able) < self._plan.needed:
            return {}
        paid = dict[str, _Paid]()
        for name in able:
            with contextlib.suppress(BudgetExceeded):  # another training has spent it just now
                paid[name] = self._pay(name, round)
        if len(paid) >= self._plan.needed:
            return paid
        for ledger, _, grant in paid.values():
            if grant is not None:
                ledger.void(grant, "too few clients could pay, and nobody was asked for anything")
        return {}

    def _pay(self, name: str, round: int) -> _Paid:
        ledger, more, grant = self._ledger(name), self._cost(name, round), None
        if not self._has_paid(name, round):
            attempt = ledger.attempts(self._run, round) + 1
            grant = ledger.reserve(more.release, self._run, round, attempt, more.times)
        return _Paid(ledger, more, grant)

    def _cost(self, name: str, round: int) -> SelfComposed:
        algorithm, client = self._plan.algorithm, self._clients[name]
        return SelfComposed(algorithm.local.release(len(client.train)), steps_of(algorithm, round, client))

    def _counted(self) -> _Worst:
        """Of the client that has spent most."""
        changed = [*self._before, *self._paid]
        self._before = []
        self._epsilons |= {name: self._ledger(name).spent() for name in changed}
        if not self._epsilons:
            return _Worst(Outlook(0.0, 0.0, None), {"means": meaning(self._plan)})
        worst = max(self._epsilons, key=lambda name: self._epsilons[name])
        ledger, here = self._ledger(worst), worst in self._clients
        cost = self._cost(worst if here else next(iter(self._clients)), 1)
        outlook = ledger.outlook(*cost)
        if not here:  # it has left and pays no more; the model may still carry its records
            outlook = Outlook(outlook.epsilon, outlook.epsilon, None)
        return _Worst(outlook, assumed_of(ledger, cost.release, meaning(self._plan)))

    def _ledger(self, name: str) -> PrivacyLedger:
        if name not in self._ledgers:
            self._ledgers[name] = self._ledger_of(name)
        return self._ledgers[name]

    def _said(self, worst: _Worst) -> dict[str, Any]:
        privacy = self._plan.privacy
        named = {
            name: {"epsilon": self._epsilons[name], "entries": paid.ledger.end[0], "head": paid.ledger.end[1]}
            for name, paid in list(self._paid.items())[:_NAMED]
        }
        said = {"unit": "record", "epsilon": worst.outlook.epsilon, **worst.assumed, "ledgers": named}
        return (privacy.model_dump() if privacy else {}) | said
