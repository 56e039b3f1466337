"""``roundhouse privacy`` of what was paid: one ledger, or those of all clients of a population that pays by record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from configs import environment
from federated.errors import InputError
from roundhouse.number_options import ABOVE_ZERO, number

if TYPE_CHECKING:
    from federated.privacy.accounting import Epsilon
    from tasks.ledger import PrivacyLedger, Statement

_NAMED = 20  # clients that a table names
_LISTED = 10  # ledgers that a message names
_NOTHING = "nothing was released"


class Statements(NamedTuple):
    """What the clients of a population have spent, each for its own records, the largest ε first."""

    population: str
    clients: tuple[Statement, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values, every client's."""
        return {"population": self.population, "clients": [found.as_json() for found in self.clients]}


def place_of(subject: str) -> Path | None:
    """A ledger, or the folder of a population's ledgers, given its name or its path; None where there is none."""
    ledger = environment.privacy_ledger(quote(subject))
    found = (path for path in (ledger, ledger.with_suffix(""), Path(subject)) if path.is_file() or _is_population(path))
    return next(found, None)


def stated(subject: str, budget: str | None) -> Statement | Statements:
    """What was paid; after a change of the ``budget`` of every ledger, where one is given.

    Raises:
        InputError: there is no such ledger, or no such budget.
        LedgerError: one of them was changed.
    """
    place = place_of(subject)
    if place is None:
        raise InputError(_no_ledger(subject))
    ledgers = [_ledger(path) for path in (sorted(place.glob("*.db")) if place.is_dir() else [place])]
    if budget is not None:
        limit = _limit(budget)
        for ledger in ledgers:
            ledger.amend(limit)
    statements = sorted((ledger.statement() for ledger in ledgers), key=lambda found: -found.epsilon.best)
    return Statements(place.name, tuple(statements)) if place.is_dir() else statements[0]


def of_ledger(found: Statement) -> Iterator[tuple[str, str]]:
    """A statement as labels and texts."""
    yield "population", found.terms.population
    yield "unit", found.terms.unit
    yield "epsilon", said(found.epsilon) + _limited(found)
    yield "delta", f"{found.terms.delta:g}"
    if found.balance.lines:
        yield "neighbours differ in", found.balance.said
    else:
        yield "spent", _NOTHING
    for counted, times in found.balance.lines:
        fields = counted.release.model_dump()
        kind = fields.pop("kind")
        sizes = ", ".join(f"{name} {value:g}" for name, value in fields.items())
        yield "spent", f"{times:,} × {kind}: {sizes} ({counted.said})"
    yield "trainings", f"{len(found.runs):,}"
    yield "entries", f"{found.entries:,}, the last is {found.head[:12]}"


def of_population(found: Statements) -> Iterator[tuple[str, str]]:
    """The clients' statements as labels and texts, a line each."""
    yield "population", f"{found.population}: {len(found.clients):,} clients, each pays for its own records"
    kinds = dict.fromkeys(one.balance.said for one in found.clients if one.balance.lines)
    if kinds:
        yield "neighbours differ in", " | ".join(kinds)
    else:
        yield "spent", _NOTHING
    for one in found.clients[:_NAMED]:
        client = one.terms.population.removeprefix(f"{found.population}/")
        yield "epsilon", f"{_figure(one.epsilon.best)}{_limited(one)}, delta {one.terms.delta:g}: {client}"
    if len(found.clients) > _NAMED:
        yield "and", f"{len(found.clients) - _NAMED:,} clients more; --json has all"


def said(found: Epsilon) -> str:
    """An ε by both accountants."""
    other = "" if found.pld is None or found.rdp is None else f" (by Rényi divergences {_figure(found.rdp)})"
    return f"{_figure(found.best)}{other}"


def _figure(epsilon: float) -> str:
    return f"{epsilon:.4f}" if math.isfinite(epsilon) else "infinite"


def _limited(found: Statement) -> str:
    return ", no budget" if found.terms.budget is None else f" of {found.terms.budget:g}"


def _limit(text: str) -> float | None:
    wanted = ABOVE_ZERO._replace(said=f"{ABOVE_ZERO.said}, or none for no limit")
    return None if text == "none" else number("--set-budget", text, wanted)


def _is_population(path: Path) -> bool:
    """Whether it is a folder of clients' ledgers; there are folders of ledgers that have nothing in common."""
    first = min(path.glob("*.db"), default=None)
    return first is not None and _ledger(first).terms.unit == "record"


def _no_ledger(subject: str) -> str:
    folder = environment.privacy_ledger(subject).parent
    found = sorted(unquote(path.stem) for path in (folder / subject).glob("*.db"))
    if not found:
        return f"there is no plan {subject}, and no privacy ledger {subject} in {folder}"
    more = " …" if len(found) > _LISTED else ""
    others = f" (or {', '.join(found[1:_LISTED])}{more})" if len(found) > 1 else ""
    return f"{subject}: the folder of ledgers that have nothing in common; name one: {subject}/{found[0]}{others}"


def _ledger(path: Path) -> PrivacyLedger:
    from tasks.ledger import PrivacyLedger
    from tasks.signing import signer, trusted_keys

    return PrivacyLedger(path, None, signer(), trusted_keys())
