"""What a training pays at once: where the noise of all its rounds is one release."""

from __future__ import annotations

from federated.privacy.releases import Release
from federated.selectors import Selection
from tasks.ledger import Grant, PrivacyLedger
from tasks.signed_log import LedgerError
from tasks.spending import Spent, said_of


class TrainingSpending:
    """One training's part in the ledger of its population: reserved before its first round, and nothing later.

    For noise that a seed repeats: a training that goes on makes the same release, and pays no more. Another training
    pays for itself, and so does the same one for a release that costs more than what it has paid for.
    """

    def __init__(self, run: str, release: Release, ledger: PrivacyLedger, means: str) -> None:
        self._run, self._release, self._ledger, self._means = run, release, ledger, means
        self._grant: Grant | None = None
        self._paid = False

    def enter(self, round: int) -> None:
        """Pays for the training, where it has not.

        Raises:
            BudgetExceeded: it would cost more than is left.
        """
        if self._paid:
            return
        before = self._ledger.paid(self._run, 1)
        if not any(release.covers(self._release) for release in before):
            self._grant = self._ledger.reserve(self._release, self._run, 1, len(before) + 1)
        self._paid = True

    def admit(self, round: int, selection: Selection) -> Selection:
        """Everybody: all have paid."""
        return selection

    def commit(self) -> Spent:
        """Noise of the training is out."""
        if not self._paid:
            raise LedgerError("a round was made of a training that nobody has paid for")
        grant, self._grant = self._grant, None
        if grant is not None:
            self._ledger.commit(grant, self._release)
        epsilon = self._ledger.spent()
        return Spent({"epsilon": epsilon}, said_of(self._ledger, self._release, epsilon, self._means))
