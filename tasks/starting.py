"""The weights that a training starts from, where they are a registered version's."""

from __future__ import annotations

from typing import Any, NamedTuple

from configs.plan import Plan
from configs.starts import Fresh, FromChampion
from federated.component import Vector
from federated.engine import Engine
from federated.errors import PlanError
from tasks.records import attacked, counted
from tasks.stored import Library
from tasks.verifying import opened_sound
from tasks.versions import CHAMPION


class Start(NamedTuple):
    """A version and its weights, shape (parameters,)."""

    version: str
    params: Vector


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
    if plan.privacy is not None and not counted(records, _terms(plan), plan.simulation):
        raise PlanError(
            f"start: what {uri} tells of clients is not in the ledger of {plan.privacy.population}: it was trained "
            "without noise, in a simulation, or for another population, delta or unit; start fresh"
        )
    return Start(version, params)


def _terms(plan: Plan) -> dict[str, Any]:
    """What the ledger of a plan counts, but for its budget."""
    privacy = plan.privacy.model_dump(exclude={"budget"}) if plan.privacy else {}
    return privacy | {"unit": plan.algorithm.unit}
