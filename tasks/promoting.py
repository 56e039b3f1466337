"""Whether a candidate becomes the champion, and the aliases that say so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from configs.plan import Plan
from federated.federation import Federation
from federated.gates import Privacy, Scores
from federated.promotion import Decision, judge_all
from tasks.records import attacked, counted, simulated
from tasks.run_keys import require_run_key
from tasks.stored import Library
from tasks.tracking import storing
from tasks.training import Sealed
from tasks.verifying import opened_sound
from tasks.versions import CANDIDATE, CHAMPION, PREVIOUS

PROMOTED_AT = "promoted_at"
"""The tag of a version that was ever a champion."""

JUDGED = "gates"
"""The tag of a version that says how its gates were: passed, or refused."""

_MODEL = "data/model.keras"
_LATENCY_ROWS = 32
_DESCRIPTION, _TAG = 5000, 4000  # characters that MLflow holds
_DECISION = "## Promotion"


class Promoted(BaseModel):
    """How a promotion ended: every gate's verdict, why it was refused, and the versions that serve.

    ``champion`` is the version that serves now, ``previous`` the one to go back to.
    """

    model_name: str
    version: str
    promoted: bool
    reasons: list[str]
    champion: str | None
    previous: str | None
    verdicts: list[dict[str, Any]] = []


class Contest(NamedTuple):
    """A candidate, the champion that it would replace and the one before; None where there is none."""

    candidate: str
    champion: str | None
    previous: str | None


def contest(plan: Plan, version: str, run_key: str = "") -> Contest:
    """The versions to compare: ``version``, the last of the training ``run_key`` or the candidate; and the champion.

    Raises:
        InputError: there is no such version, or it is no run key.
        TrackingError: MLflow cannot be read.
    """
    library = Library()
    if run_key:
        require_run_key(run_key)
        version = library.last_of_training(plan.name, run_key)
    wanted = f"{plan.name}/{version}" if version else f"{plan.name}@{CANDIDATE}"
    candidate = library.resolve(wanted)[1]
    return Contest(candidate, library.alias(plan.name, CHAMPION), library.alias(plan.name, PREVIOUS))


def raw_federation(plan: Plan) -> Federation:
    """The parties with rows as callers send them: registered models scale for themselves what callers do not."""
    return plan.model_copy(update={"scaling": plan.scaling.left_to_callers}).federation()


@task(task_run_name="score_version {name}/{version}", cache_policy=NO_CACHE, persist_result=False)
def score_version(name: str, version: str, federation: Sealed[Federation]) -> Sealed[Scores]:
    """A version on the server's held-out rows and on every client's own, loaded as a service would load it.

    Raises:
        TrainingError: it is not what its training registered, or cannot be loaded.
    """
    from models.loaded_model import LoadedModel

    parties = federation.value
    with opened_sound(f"{name}/{version}") as found:
        path = found.stored.folder / _MODEL
        model = LoadedModel(path)
        return Sealed(
            Scores(
                test=model.score(parties.test, parties.classes),
                clients={client.name: model.score(client.test, parties.classes) for client in parties.clients.values()},
                privacy=_spent(found.records),
                latency=model.latency(parties.test.x[:_LATENCY_ROWS]),
                size=path.stat().st_size,
                schema=schema(found.stored.folder),
                attacked=attacked(found.records),
            )
        )


@task(task_run_name="judge_candidate {plan.name}/{version}", cache_policy=NO_CACHE, persist_result=False)
def judge_candidate(
    plan: Plan, version: str, candidate: Sealed[Scores], champion: Sealed[Scores] | None
) -> Sealed[Decision]:
    """Every gate's verdict, as a table in Prefect and on the version.

    Raises:
        InputError: a gate asks for what was not measured.
        TrackingError: MLflow refused.
    """
    other = None if champion is None else champion.value
    decision = judge_all(plan.promotion.gates, candidate.value, other, plan.algorithm.seed)
    create_markdown_artifact(
        key=f"{plan.name}-promotion",
        markdown=f"# {plan.name} version {version}\n\n{decision.as_markdown()}",
        description=f"{plan.name} version {version}: {'passed' if decision.passed else 'refused'}",
    )
    library = Library()
    tags = {
        JUDGED: "passed" if decision.passed else "refused",
        "gates_reasons": "; ".join(reasons(decision))[:_TAG],
        "gates_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}",
        "approval": "not asked",
        "approval_comment": "",
    }
    _tag(library, plan.name, version, tags)
    with storing("the decision"):
        found = library.client.get_model_version(plan.name, version)
        card = (found.description or "").partition(_DECISION)[0].rstrip()
        described = f"{card}\n\n{_DECISION}\n\n{decision.as_markdown()}".lstrip()[:_DESCRIPTION]
        library.client.update_model_version(plan.name, version, description=described)
    return Sealed(decision)


def _spent(records: Sequence[Mapping[str, Any]]) -> Privacy | None:
    """What a version's records, its own first, say of privacy; None where not all of its rounds have paid."""
    said = records[0].get("privacy", {})
    terms = {name: said.get(name) for name in ("population", "unit", "delta")}
    if not said or not counted(records, terms, simulation=True):
        return None
    known = "relation" in said  # records of before have it in words alone
    assumed = f"{said['relation']}, sampling {said['sampling']}" if known else said["means"]
    return Privacy(said["epsilon"], said["unit"], said["delta"], simulated(records), assumed)


def note_approval(name: str, version: str, decision: str, comment: str) -> None:
    """Says on the version what a person decided of it.

    Raises:
        TrackingError: MLflow refused.
    """
    _tag(Library(), name, version, {"approval": decision, "approval_comment": comment[:_TAG]})


def reasons(decision: Decision) -> list[str]:
    """Why it was refused; nothing where it was not."""
    return [f"{verdict.gate}: {verdict.reason}" for verdict in decision.verdicts if not verdict.passed]


def schema(folder: Path) -> dict[str, Any]:
    """The signature in a model's folder, as plain JSON."""
    signature = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["signature"]
    return {name: json.loads(signature[name]) for name in ("inputs", "outputs")}


def _tag(library: Library, name: str, version: str, tags: dict[str, str]) -> None:
    with storing("the decision"):
        for tag, text in tags.items():
            library.client.set_model_version_tag(name, version, tag, text)
