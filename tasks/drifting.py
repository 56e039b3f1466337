"""Whether the rows of today are still those that the champion was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel
from safetensors.numpy import load, save

from configs.plan import Plan
from federated.data import Client, Split, concatenate
from federated.drift import Counts, Reference, count, reference, stability
from federated.engine import SMALLER_IS_BETTER
from federated.errors import InputError
from federated.federation import Federation
from federated.scaling import Standardize
from tasks.promoting import raw_federation
from tasks.stored import Library
from tasks.summary import table
from tasks.tracking import storing
from tasks.verifying import opened_sound
from tasks.versions import CHAMPION

REFERENCE = "reference.safetensors"
"""The artifact of a run that counts its training rows by feature and bin."""


class Drift(BaseModel):
    """How the champion fares on the rows of today.

    ``psi`` has each client's largest stability index, ``reasons`` what has moved too far.
    """

    model_name: str
    version: str
    metric: str
    before: float
    now: float
    psi: dict[str, float]
    psi_of_all: float
    feature: int
    drifted: bool
    reasons: list[str]

    def as_markdown(self) -> str:
        """A table."""
        facts = [
            [f"{self.metric} on its test rows, when it was trained", f"{self.before:.4f}"],
            [f"{self.metric} on the clients' rows of today", f"{self.now:.4f}"],
            [f"largest stability index, of all clients (feature {self.feature})", f"{self.psi_of_all:.4f}"],
            *([f"{name}: largest stability index", f"{index:.4f}"] for name, index in sorted(self.psi.items())),
        ]
        verdict = "; ".join(self.reasons) or "nothing has moved too far"
        return f"# {self.model_name} version {self.version}\n\n{verdict}\n\n{table(['', ''], facts)}"


def reference_bytes(federation: Federation) -> bytes:
    """Counts of the training rows, as safetensors: what ``measure_drift`` compares with."""
    parts = [federation.scaling.invert(client.train) for client in federation.clients.values()]
    known = reference(Standardize().fit(parts), [part.x for part in parts])
    return save({"edges": known.edges, "counts": np.asarray(known.counts, np.int64)})


@task(task_run_name="measure_drift {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def measure_drift(plan: Plan) -> Drift:
    """The champion's score and the stability of its features on every client's rows of today.

    Raises:
        InputError: there is no champion, or the data have other features.
        TrainingError: the champion is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    from models.loaded_model import LoadedModel

    library = Library()
    version = library.alias(plan.name, CHAMPION)
    if version is None:
        raise InputError(f"{plan.name} has no champion yet; roundhouse promote {plan.name} makes one")
    parties = raw_federation(plan)
    rows = concatenate([_rows(client) for client in parties.clients.values()])
    with opened_sound(f"{plan.name}/{version}") as stored:
        known = Reference(**load(library.run_file(stored.run_id, REFERENCE)))
        if known.edges.shape[0] != rows.x[0].size:
            raise InputError(f"the data have {rows.x[0].size} features, {stored} was trained on {known.edges.shape[0]}")
        scores = LoadedModel(stored.folder / "data" / "model.keras").score(rows, parties.classes)
        with storing("the champion's numbers", verb="read"):
            recorded = library.client.get_run(stored.run_id).data.metrics
    metric = "mae" if parties.classes is None else "accuracy"
    return _judged(plan, version, metric, recorded[f"test_{metric}"], float(scores[metric].mean()), known, parties)


def publish_drift(drift: Drift) -> None:
    """The table, in the Prefect UI."""
    create_markdown_artifact(key=f"{drift.model_name}-drift", markdown=drift.as_markdown())


def _judged(
    plan: Plan, version: str, metric: str, before: float, now: float, known: Reference, parties: Federation
) -> Drift:
    counts = {name: count(known.edges, _rows(client).x) for name, client in parties.clients.items()}
    everywhere = stability(known.counts, np.sum(list(counts.values()), axis=0))
    worst, limits = int(np.argmax(everywhere)), plan.drift
    loss = (now - before) if SMALLER_IS_BETTER[metric] else (before - now)
    reasons = []
    if everywhere[worst] > limits.psi:
        reasons.append(f"feature {worst} has a stability index of {everywhere[worst]:.3f}, above {limits.psi:g}")
    if not loss <= limits.worse_by:
        reasons.append(f"{metric} is {now:.4f} and was {before:.4f}: worse by more than {limits.worse_by:g}")
    return Drift(
        model_name=plan.name,
        version=version,
        metric=metric,
        before=before,
        now=now,
        psi={name: _largest(known.counts, found) for name, found in counts.items()},
        psi_of_all=float(everywhere[worst]),
        feature=worst,
        drifted=bool(reasons),
        reasons=reasons,
    )


def _largest(expected: Counts, found: NDArray[np.int64]) -> float:
    return float(stability(expected, found).max())


def _rows(client: Client) -> Split:
    return concatenate([client.train, client.test])
