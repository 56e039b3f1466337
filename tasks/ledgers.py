"""Which ledgers a training pays into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from configs import environment
from configs.plan import Plan
from configs.privacy import meaning, neighbours
from federated.errors import InputError
from tasks.balance import Terms
from tasks.ledger import PrivacyLedger
from tasks.record_spending import RecordSpending
from tasks.signed_log import End, set_back
from tasks.signing import Signer, trusted_keys
from tasks.spending import ClientSpending, Spending
from tasks.training import Training
from tasks.training_spending import TrainingSpending


def spending(training: Training, run_key: str, signer: Signer, records: Iterable[Mapping[str, Any]]) -> Spending | None:
    """What a training pays into; None where nothing adds noise.

    A simulation pays into ledgers of its own: nobody real is told of. ``records`` are those of a training that goes on,
    or of what it starts from: the ledgers must have what these have seen of them.

    Raises:
        InputError: a ledger was begun on other terms.
        LedgerError: it was changed, removed or set back.
    """
    plan = training.plan
    algorithm, privacy = plan.algorithm, plan.privacy
    if privacy is None or algorithm.unit is None:
        return None
    terms = Terms(unit=algorithm.unit, **privacy.model_dump())
    _require_one_unit(terms, plan.simulation)
    run = f"{plan.name}-{run_key}"
    ledgers = _Ledgers(plan, run, terms, signer, ends_seen(records, terms.population, plan.simulation))
    if algorithm.release is None:
        return RecordSpending(plan, run, training.federation.clients, ledgers.of_client, ledgers.clients())
    repeats = not algorithm.secret
    if algorithm.sized is not None:
        rounds, paying = algorithm.sized.rounds, ledgers.of_all()
        return TrainingSpending(run, algorithm.release, rounds, paying, repeats=repeats, means=meaning(plan))
    return ClientSpending(run, algorithm.release, ledgers.of_all(), repeats=repeats, means=meaning(plan))


class _Ledgers(NamedTuple):
    """Those of a population, and which ends the training ``run`` has ``seen`` of them."""

    plan: Plan
    run: str
    terms: Terms
    signer: Signer
    seen: Mapping[str, End]

    def of_all(self) -> PrivacyLedger:
        """The one ledger, where clients are hidden."""
        return self._opened(self._path(), self.terms)

    def of_client(self, name: str) -> PrivacyLedger:
        """A client's own, where records are."""
        whose = self._whose(name)
        return self._opened(self._path(name), self.terms.model_copy(update={"population": whose}))

    def clients(self) -> set[str]:
        """Who has a ledger, or had one, whether it takes part today or not."""
        begins = self._whose("")
        seen = {name.removeprefix(begins) for name in self.seen if name.startswith(begins)}
        return seen | {unquote(path.stem) for path in self._path().with_suffix("").glob("*.db")}

    def _opened(self, path: Path, terms: Terms) -> PrivacyLedger:
        end = self.seen.get(terms.population)
        if end is not None and not path.exists():
            raise set_back(path, end)
        ledger = PrivacyLedger(path, terms, self.signer, trusted_keys(), neighbours(self.plan))
        if end is not None:
            ledger.require_end(end)
        return ledger

    def _whose(self, name: str) -> str:
        return f"{self.terms.population}/{name}"

    def _path(self, *names: str) -> Path:
        population = self.run if self.plan.simulation else self.terms.population
        place = "/".join([population, *(quote(name, safe="") for name in names)])
        return environment.privacy_ledger(place, self.plan.simulation)


def ends_seen(records: Iterable[Mapping[str, Any]], population: str, simulation: bool) -> dict[str, End]:
    """The last end of each ledger of a population that a training's records name, the oldest of these first.

    That of round 0 names those which its start had ``seen``. Rounds of a ``simulation`` and others have paid into other
    ledgers: a training may have had both.
    """
    found, simulated = dict[str, End](), False
    for record in records:
        if "identity" in record:
            simulated = bool(record["identity"]["plan"].get("simulation"))
        found |= {name: End(**end) for name, end in record.get("seen", {}).items()}
        said = record.get("privacy", {})
        if said.get("population") == population and simulated == simulation:
            by_client = {f"{population}/{name}": ledger for name, ledger in said.get("ledgers", {}).items()}
            told = by_client if "ledgers" in said else {population: said}
            found |= {name: End(ledger["entries"], ledger["head"]) for name, ledger in told.items()}
    return found


def seen_by_start(plan: Plan, records: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The ends of ledgers that the records of a training's start name, for its own first record."""
    if plan.privacy is None or plan.simulation:
        return {}
    return {name: end._asdict() for name, end in ends_seen(records, plan.privacy.population, False).items()}


def _require_one_unit(terms: Terms, simulation: bool) -> None:
    """A record's ε and a client's cannot be told from one another's ledgers: a population pays by one of them."""
    by_client = environment.privacy_ledger(terms.population)
    other = by_client if terms.unit == "record" else by_client.with_suffix("")
    if other.exists() and not simulation:
        unit = "client" if terms.unit == "record" else "record"
        raise InputError(
            f"privacy.population: {terms.population} pays by {unit}, see {other}; the plan would pay by {terms.unit}, "
            "and neither would see the other"
        )
