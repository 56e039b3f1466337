"""Which ledgers a training pays into."""

from __future__ import annotations

from urllib.parse import quote

from configs import environment
from configs.privacy import meaning
from federated.errors import InputError
from tasks.ledger import PrivacyLedger, Terms
from tasks.record_spending import RecordSpending
from tasks.signing import Signer, trusted_keys
from tasks.spending import ClientSpending, Spending
from tasks.training import Training
from tasks.training_spending import TrainingSpending


def spending(training: Training, run_key: str, signer: Signer) -> Spending | None:
    """What a training pays into; None where nothing adds noise.

    A simulation pays into ledgers of its own: nobody real is told of.

    Raises:
        InputError: a ledger was begun on other terms.
        LedgerError: it was changed.
    """
    plan = training.plan
    algorithm, privacy = plan.algorithm, plan.privacy
    if privacy is None or algorithm.unit is None:
        return None
    run, terms = f"{plan.name}-{run_key}", Terms(unit=algorithm.unit, **privacy.model_dump())
    whose = run if plan.simulation else terms.population

    def ledger(name: str, terms: Terms) -> PrivacyLedger:
        return PrivacyLedger(environment.privacy_ledger(name, plan.simulation), terms, signer, trusted_keys())

    _require_one_unit(terms, plan.simulation)
    repeats = not algorithm.secret
    if algorithm.release is not None and algorithm.sized is not None:
        rounds, paying = algorithm.sized.rounds, ledger(whose, terms)
        return TrainingSpending(run, algorithm.release, rounds, paying, repeats=repeats, means=meaning(plan))
    if algorithm.release is not None:
        return ClientSpending(run, algorithm.release, ledger(whose, terms), repeats=repeats, means=meaning(plan))

    def place(name: str) -> str:
        return f"{whose}/{quote(name, safe='')}"

    def of_client(name: str) -> PrivacyLedger:
        return ledger(place(name), terms.model_copy(update={"population": f"{terms.population}/{name}"}))

    def has_ledger(name: str) -> bool:
        return environment.privacy_ledger(place(name), plan.simulation).exists()

    return RecordSpending(plan, run, training.federation.clients, of_client, has_ledger)


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
