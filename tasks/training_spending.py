"""What a training pays at once: where the noise of all its rounds is one release."""

from __future__ import annotations

from federated.privacy.accounting import SelfComposed
from federated.privacy.releases import Release
from federated.selectors import Selection
from tasks.balance import Outlook
from tasks.ledger import Grant, PrivacyLedger
from tasks.signed_log import LedgerError
from tasks.spending import Spent, numbers_of, said_of


class TrainingSpending:
    """One training's part in the ledger of its population: reserved before its first round.

    Noise that a seed repeats is paid for once: a training that goes on makes the same release. A round with other noise
    that is begun once more pays for a whole training again, which what is drawn twice does not exceed. Another training
    pays for itself, and so does the same one for a release that costs more than what it has paid for.
    """

    def __init__(
        self, run: str, release: Release, rounds: int, ledger: PrivacyLedger, *, repeats: bool, means: str
    ) -> None:
        """The noise is sized for so many ``rounds``."""
        self._run, self._release, self._rounds, self._ledger = run, release, rounds, ledger
        self._repeats, self._means = repeats, means
        self._round: int | None = None
        self._grant: Grant | None = None

    def enter(self, round: int) -> None:
        """Pays for the training, where it has not, and says that a round begins; once more changes nothing.

        Raises:
            BudgetExceeded: it would cost more than is left.
        """
        if self._round != round:
            self._grant = self._pay(round)
            self._round = round

    def admit(self, round: int, selection: Selection) -> Selection:
        """Everybody: all have paid."""
        return selection

    def commit(self) -> Spent:
        """Noise of the round is out."""
        if self._round is None:
            raise LedgerError("a round was made of a training that nobody has paid for")
        left, self._round = self._rounds - self._round, None
        grant, self._grant = self._grant, None
        if grant is not None:
            self._ledger.commit(grant, self._release)
        epsilon = self._ledger.spent()
        outlook = Outlook(epsilon, epsilon, left)
        return Spent(numbers_of(outlook), said_of(self._ledger, self._release, epsilon, self._means))

    def _pay(self, round: int) -> Grant | None:
        paid = self._ledger.covers(self._run, 1, SelfComposed(self._release, 1))
        if self._repeats:
            return None if paid else self._reserve(1, 1)
        begun = bool(self._ledger.attempts(self._run, round))
        return self._reserve(round, 1 if begun or not paid else 0)

    def _reserve(self, round: int, times: int) -> Grant:
        attempt, buys = self._ledger.attempts(self._run, round) + 1, "a whole training" if times else "the next round"
        return self._ledger.reserve(self._release, self._run, round, attempt, times, buys=buys)
