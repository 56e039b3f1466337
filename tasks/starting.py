"""The weights that a training starts from, where they are a registered version's; and what they told of clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from configs.plan import Plan
from configs.starts import Fresh, FromChampion
from federated.component import Vector
from federated.engine import Engine
from federated.errors import PlanError
from tasks.records import attacked, counted, simulated
from tasks.stored import Library
from tasks.verifying import opened_sound, sound_records
from tasks.versions import CHAMPION


class Start(NamedTuple):
    """A version, its weights, shape (parameters,), and the records of its rounds."""

    version: str
    params: Vector
    records: list[dict[str, Any]]


def starting_point(plan: Plan, engine: Engine) -> Start | None:
    """The version to start from; None where the weights are drawn.

    Raises:
        PlanError: it is a model of another size.
        InputError: there is no such version, or it has no weights any more.
        TrainingError: it is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    if isinstance(plan.start, Fresh):
        return None
    library = Library()
    champion = isinstance(plan.start, FromChampion)
    version = library.alias(plan.name, CHAMPION) if champion else str(plan.start.version)  # type: ignore[union-attr]
    if version is None:
        return None
    uri = f"{plan.name}/{version}"
    with opened_sound(uri) as found:
        params, records = found.stored.params, found.records
    if params.size != engine.size:
        raise PlanError(f"start: {uri} has {params.size:,} parameters, the plan's model has {engine.size:,}")
    trained = next(record["identity"] for record in records if "identity" in record)["plan"]["model"]
    if trained != plan.model.model_dump(mode="json"):
        raise PlanError(f"start: {uri} is another model: {trained}")
    if attacked(records) and not plan.attacks:
        raise PlanError(f"start: {uri} was trained under attack; only a plan with attacks may start from it")
    if not _is_counted(plan, records):
        raise PlanError(f"start: what {uri} {_not_counted(plan)}; start fresh")
    return Start(version, params, records)


def told_before(plan: Plan, start: str | None) -> list[dict[str, Any]]:
    """The records of the version that a training started from, whose weights may be gone; none without one.

    Raises:
        InputError: the version is gone.
        TrainingError: it is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    return [] if start is None else sound_records(f"{plan.name}/{start}")


def require_counted(plan: Plan, records: Sequence[Mapping[str, Any]]) -> None:
    """Before a training goes on that has changed: its ledger must have all that it, and what it started from, told.

    Raises:
        PlanError: it has not.
        InputError: the version that it started from is gone.
        TrainingError: that is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    if plan.privacy is None:
        return
    if any("identity" in record and simulated([record]) != plan.simulation for record in records):
        was, now = ("no simulation", "one") if plan.simulation else ("a simulation", "none")
        raise PlanError(f"--accept-change: this training was {was} so far and is {now} now; begin another")
    if not _is_counted(plan, [*records, *told_before(plan, records[0].get("start"))]):
        raise PlanError(f"--accept-change: what this training so far {_not_counted(plan)}; begin another")


def _is_counted(plan: Plan, records: Sequence[Mapping[str, Any]]) -> bool:
    return plan.privacy is None or counted(records, _terms(plan), plan.simulation)


def _not_counted(plan: Plan) -> str:
    population = plan.privacy.population if plan.privacy else ""
    return (
        f"tells of clients is not in the ledger of {population}: it was trained without noise, in a simulation, or for "
        "another population, delta or unit"
    )


def _terms(plan: Plan) -> dict[str, Any]:
    """What the ledger of a plan counts, but for its budget."""
    privacy = plan.privacy.model_dump(exclude={"budget"}) if plan.privacy else {}
    return privacy | {"unit": plan.algorithm.unit}
