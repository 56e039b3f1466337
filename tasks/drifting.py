"""Whether the rows of today are still those that the champion was trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.numpy import load, save

from configs.plan import Plan
from federated.component import Metrics
from federated.data import concatenate, feature
from federated.drift import Reference, count, moved, reference
from federated.engine import SMALLER_IS_BETTER
from federated.errors import InputError, TrainingError
from federated.federation import Federation
from federated.scaling import Standardize
from tasks.promoting import raw_federation
from tasks.signing import trusted_keys
from tasks.stored import Library, StoredVersion
from tasks.summary import table
from tasks.tracking import storing
from tasks.verifying import opened_sound
from tasks.versions import CHAMPION

REFERENCE = "reference.safetensors"
"""The artifact of a run that counts its training rows by feature and bin."""

_CAPTION = (
    "Stability indices are what is left after chance. Each client's rows of today are compared with the training rows "
    "of all clients: a client that was always unlike the others has a high index though nothing has moved."
)
_NOT_COUNTED = "The champion's training never finished, so it did not count its features: they are not compared."


class Drift(BaseModel):
    """How the champion fares on the rows of today.

    ``before`` is its score on the server's ``rows`` (``test``; or ``validation``, where it is not the last version of
    its training and there are such) when it was trained, ``now`` on those of today; ``before`` is None where nobody
    measured it then.
    ``psi`` has each client's largest stability index less what chance gives, ``psi_of_all`` and ``feature`` that of all
    clients and where it is, from 0, which ``feature_name`` says in words; empty and None where the champion's training
    left nothing to compare with. ``reasons`` is what has moved too far.
    """

    model_name: str
    version: str
    metric: str
    rows: str
    before: float | None
    now: float
    psi: dict[str, float]
    psi_of_all: float | None
    feature: int | None
    feature_name: str
    drifted: bool
    reasons: list[str]

    def as_markdown(self) -> str:
        """A table."""
        facts = [
            [f"{self.metric} on the server's {self.rows} rows, when it was trained", _written(self.before)],
            [f"{self.metric} on the server's {self.rows} rows of today", f"{self.now:.4f}"],
        ]
        if self.psi_of_all is not None:
            facts.append([f"largest stability index, of all clients ({self.feature_name})", f"{self.psi_of_all:.4f}"])
        facts += [[f"{name}: largest stability index", f"{index:.4f}"] for name, index in sorted(self.psi.items())]
        verdict = "; ".join(self.reasons) or "nothing has moved too far"
        caption = _NOT_COUNTED if self.psi_of_all is None else _CAPTION
        return f"# {self.model_name} version {self.version}\n\n{verdict}\n\n{table(['', ''], facts)}\n\n{caption}"


class _Score(NamedTuple):
    """A score on the server's ``rows``, when the champion was trained (None: nobody measured it) and now."""

    metric: str
    rows: str
    before: float | None
    now: float


class _Moves(NamedTuple):
    """Each client's largest stability index, and all clients', less what chance gives; None where it is unknown."""

    psi: dict[str, float]
    psi_of_all: float | None = None
    feature: int | None = None
    feature_name: str = ""


def reference_bytes(federation: Federation) -> bytes:
    """Counts of the training rows, as safetensors: what ``measure_drift`` compares with."""
    parts = [federation.as_came(client.name, client.train) for client in federation.clients.values()]
    known = reference(Standardize().fit(parts), [part.x for part in parts])
    return save({"edges": known.edges, "counts": np.asarray(known.counts, np.int64)})


@task(task_run_name="measure_drift {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def measure_drift(plan: Plan) -> Drift | None:
    """The champion's score on the server's held-out rows of today, and the stability of its features on the clients'.

    None where there is no champion yet. Rows that it was trained on are never among those that it is scored on.

    Raises:
        InputError: the data have other features.
        TrainingError: the champion is not what its training registered.
        TrackingError: MLflow cannot be read.
    """
    library = Library()
    version = library.alias(plan.name, CHAMPION)
    if version is None:
        return None
    parties = raw_federation(plan)
    with opened_sound(f"{plan.name}/{version}") as found:
        score = _score(library, found.stored, parties)
        moves = _moves(library, found.stored, parties)
    return _judged(plan, version, score, moves)


def publish_drift(drift: Drift) -> None:
    """The table, in the Prefect UI."""
    create_markdown_artifact(key=f"{drift.model_name}-drift", markdown=drift.as_markdown())


def _score(library: Library, stored: StoredVersion, parties: Federation) -> _Score:
    from models.loaded_model import LoadedModel

    model = LoadedModel(stored.folder / "data" / "model.keras")
    if model.inputs != parties.inputs:
        raise InputError(f"the data have features of shape {parties.inputs}, {stored} was trained on {model.inputs}")
    metric = "mae" if parties.classes is None else "accuracy"
    final = _final(library, stored)
    if f"test_{metric}" in final:
        rows, before, split = "test", final[f"test_{metric}"], parties.test
    elif not len(parties.validation):
        rows, before, split = "test", None, parties.test
    else:  # what its round recorded is its own
        before = stored.record(trusted_keys())["report"]["metrics"].get(metric)
        rows, split = "validation", parties.validation
    return _Score(metric, rows, before, float(model.score(split, parties.classes)[metric].mean()))


def _final(library: Library, stored: StoredVersion) -> Metrics:
    """The numbers that its training ended with; none where it did not end, or ended with another version."""
    with storing("the champion's numbers", verb="read"):
        run = library.client.get_run(stored.run_id).data
    return dict(run.metrics) if run.tags.get("model_version") == stored.version else {}


def _moves(library: Library, stored: StoredVersion, parties: Federation) -> _Moves:
    content = library.run_file(stored.run_id, REFERENCE)
    if not content:
        return _Moves({})
    known = _read(content, stored, int(np.prod(parties.inputs)))
    counts = {
        name: count(known.edges, parties.as_came(name, concatenate([client.train, client.test])).x)
        for name, client in parties.clients.items()
    }
    everywhere = moved(known.counts, np.sum(list(counts.values()), axis=0))
    worst = int(np.argmax(everywhere))
    psi = {name: _largest(known, found) for name, found in counts.items()}
    return _Moves(psi, float(everywhere[worst]), worst, feature(worst, parties.features))


def _read(content: bytes, stored: StoredVersion, features: int) -> Reference:
    try:
        known = Reference(**load(content))
        if len(known.edges) == features and known.counts.shape == (features, known.edges.shape[1] + 1):
            return known
    except (SafetensorError, TypeError, IndexError):  # other names in it, or other ranks
        pass
    raise TrainingError(f"{REFERENCE} of the run of {stored} is damaged; train and promote again")


def _judged(plan: Plan, version: str, score: _Score, moves: _Moves) -> Drift:
    limits, reasons = plan.drift, []
    if moves.psi_of_all is not None and moves.psi_of_all > limits.psi:
        reasons.append(
            f"{moves.feature_name} has a stability index {moves.psi_of_all:.3f} beyond chance, above {limits.psi:g}"
        )
    if score.before is not None and not _worse_by(score, score.before) <= limits.worse_by:
        reasons.append(
            f"{score.metric} is {score.now:.4f} and was {score.before:.4f}: worse by more than {limits.worse_by:g}"
        )
    return Drift(
        model_name=plan.name,
        version=version,
        **score._asdict(),
        **moves._asdict(),
        drifted=bool(reasons),
        reasons=reasons,
    )


def _worse_by(score: _Score, before: float) -> float:
    return score.now - before if SMALLER_IS_BETTER[score.metric] else before - score.now


def _written(score: float | None) -> str:
    return "its round was not evaluated" if score is None else f"{score:.4f}"


def _largest(known: Reference, found: NDArray[np.int64]) -> float:
    return float(moved(known.counts, found).max())
