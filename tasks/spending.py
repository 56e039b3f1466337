"""What the rounds of a training pay: reserved before a round begins, committed when its noise is out."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from configs import environment
from configs.plan import Plan
from configs.privacy import meaning
from federated.component import Metrics
from federated.privacy.releases import Release
from tasks.ledger import Grant, Outlook, PrivacyLedger, Terms
from tasks.signed_log import LedgerError
from tasks.signing import Signer, trusted_keys


class Spent(NamedTuple):
    """Where the budget stands after a round: numbers for MLflow, and what the round's record says."""

    metrics: Metrics
    said: dict[str, Any]


class _Begun(NamedTuple):
    """A round that is paid for: its grant, None where it was paid for before; and what it leaves, once counted."""

    round: int
    grant: Grant | None
    outlook: Future[Outlook]


class Spending:
    """One training's part in the ledger of its population. A simulation has a ledger of its own: nobody real pays.

    Noise that a seed repeats is paid for once, however often its round is computed.
    """

    def __init__(self, run: str, release: Release, ledger: PrivacyLedger, *, repeats: bool, means: str) -> None:
        self._run, self._release, self._ledger = run, release, ledger
        self._repeats, self._means = repeats, means
        self._begun: _Begun | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="accountant")

    def reserve(self, round: int) -> None:
        """Pays for a round; not again where that was done and the round was not made.

        Raises:
            BudgetExceeded: it would cost more than is left.
        """
        if self._begun is not None and self._begun.round == round:
            return
        before, grant = self._ledger.attempts(self._run, round), None
        if not before or not self._repeats:
            grant = self._ledger.reserve(self._release, self._run, round, before + 1)
        # Counted beside the training of the round.
        self._begun = _Begun(round, grant, self._thread.submit(self._ledger.outlook, self._release))

    def commit(self) -> Spent:
        """The noise of the round that is paid for is out."""
        if self._begun is None:
            raise LedgerError("a round was made that nobody has paid for")
        begun, self._begun = self._begun, None
        outlook = begun.outlook.result()
        if begun.grant is not None:
            self._ledger.commit(begun.grant, self._release)
        return Spent(_numbers(outlook), self._said(outlook))

    def _said(self, outlook: Outlook) -> dict[str, Any]:
        entries, head = self._ledger.end
        said = {"epsilon": outlook.epsilon, "means": self._means, "release": self._release.model_dump()}
        return self._ledger.terms.model_dump() | said | {"entries": entries, "head": head}


def _numbers(outlook: Outlook) -> Metrics:
    left = {} if outlook.remaining is None else {"privacy_rounds_left": float(outlook.remaining)}
    return {"epsilon": outlook.epsilon, "epsilon_next": outlook.after_next} | left


def spending(plan: Plan, run_key: str, signer: Signer) -> Spending | None:
    """What a training pays into, which it opens or begins; None where nothing adds noise.

    Raises:
        InputError: it was begun on other terms.
        LedgerError: it was changed.
    """
    algorithm, privacy = plan.algorithm, plan.privacy
    if algorithm.release is None or privacy is None:
        return None
    run, terms = f"{plan.name}-{run_key}", Terms(unit="client", **privacy.model_dump())
    path = environment.privacy_ledger(run if plan.simulation else terms.population, simulated=plan.simulation)
    ledger = PrivacyLedger(path, terms, signer, trusted_keys())
    return Spending(run, algorithm.release, ledger, repeats=not algorithm.secret, means=meaning(plan))
