"""All attacks of a plan, brought to bear on its clients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from federated.attacks.attack import Attack, Seen
from federated.component import Metrics, Vector
from federated.data import Client, Split
from federated.engine import Engine
from federated.evaluation import evaluate
from federated.onion import Trained
from federated.randomness import generator
from federated.updates import Update


class Adversary:
    """Who attacks in which round, and how; a function of its arguments alone. Attacks are made in their order.

    A client may be behind several. Who is drawn, and which rows are poisoned, is the same in all rounds; noise is not.
    """

    def __init__(
        self, attacks: Sequence[Attack] = (), seed: int = 0, clients: Iterable[str] = (), classes: int | None = None
    ) -> None:
        names = sorted(clients) if attacks else []
        self._seed, self._classes, self._attacks = seed, classes, tuple(attacks)
        self._who = [attack.who(names, self._rng(0, place)) for place, attack in enumerate(attacks)]

    def attackers(self, round: int, cohort: Iterable[str]) -> frozenset[str]:
        """Those of a cohort that attack in this round."""
        return frozenset(name for name in cohort if any(True for _ in self._attacks_of(round, name)))

    def census(self, round: int, cohort: Iterable[str]) -> Metrics:
        """``attackers``: how many of a cohort attack in this round; nothing where a plan has no attack."""
        return {"attackers": float(len(self.attackers(round, cohort)))} if self._attacks else {}

    def poisoned(self, round: int, client: Client) -> Client:
        """The client as it trains in this round: itself, unless it poisons its rows."""
        for place, attack in self._attacks_of(round, client.name):
            client = attack.poison(client, self._classes, self._rng(0, place, client.name))
        return client

    def lied(self, round: int, trained: Sequence[Trained]) -> list[Trained]:
        """A cohort's updates, before any transform, with attackers' lies in the place of what they trained.

        Lies are told once everybody has trained: attackers know the honest updates. What clients keep is not touched.
        """
        liars = self.attackers(round, (one.update.client for one in trained))
        if not liars:
            return list(trained)
        honest = [one.update for one in trained if one.update.client not in liars]
        seen = Seen([update for update in honest or [one.update for one in trained] if update.finite], len(liars))
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and the round leaves it out
            return [one._replace(update=self._lied(round, one.update, seen)) for one in trained]

    def success(self, engine: Engine, params: Vector, rows: Split) -> Metrics:
        """``backdoor_success``: how often a model does what attackers want, on ``rows``; of several, the best of them.

        Nothing where they want nothing, or where there are no rows to see it on.
        """
        wanted = [triggered for attack in self._attacks if (triggered := attack.triggered(rows)) is not None]
        shares = [evaluate(engine, params, triggered)["accuracy"] for triggered in wanted if len(triggered)]
        return {"backdoor_success": max(shares)} if shares else {}

    def _lied(self, round: int, own: Update, seen: Seen) -> Update:
        for place, attack in self._attacks_of(round, own.client):
            own = attack.lie(own, seen, self._rng(round, place, own.client))
        return own

    def _attacks_of(self, round: int, client: str) -> Iterator[tuple[int, Attack]]:
        for place, (attack, who) in enumerate(zip(self._attacks, self._who, strict=True)):
            if client in who and round in attack.rounds:
                yield place, attack

    def _rng(self, round: int, place: int, client: str = "") -> np.random.Generator:
        return generator(self._seed, round, f"attack-{place}", client)


NOBODY = Adversary()
"""No attack."""
