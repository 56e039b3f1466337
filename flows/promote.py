"""A candidate becomes the champion, or is refused with reasons; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow, runtime
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, State

from configs.loading import resolve_plan
from configs.plan import Plan
from federated.federation import Federation
from federated.gates import Decision
from flows.named import run_name
from flows.one_at_a_time import one_promotion_of
from tasks.promoting import (
    Contest,
    Promoted,
    contest,
    judge_candidate,
    move_aliases,
    raw_federation,
    reasons,
    restore_previous,
    score_version,
)
from tasks.tracking import require_mlflow
from tasks.training import Sealed

REFUSED = "Refused"
"""The name of the state in which a promotion that was refused ends."""

_DAY = 86_400


class Approval(RunInput):
    """What a person says of a candidate that passed every gate."""

    approve: bool
    comment: str = ""


@flow(name="promote", flow_run_name=run_name, persist_result=False)
def promote(
    plan: Plan | str, overrides: Sequence[str] = (), version: str = "", run_key: str = "", approved: bool = False
) -> State[Any]:
    """Makes a version the champion where every gate of the plan lets it; nothing moves where one does not.

    The version is the candidate, or ``version``, or the last of the training ``run_key``. Where the plan asks for
    approval, the run of a deployment pauses for a person; elsewhere ``approved`` says that one has approved.

    Raises:
        InputError: the plan is wrong, or there is no such version.
        TrainingError: a version is not what its training registered.
        TrackingError: MLflow cannot be reached.
    """
    resolved = resolve_plan(plan, overrides)
    require_mlflow()
    federation = Sealed(raw_federation(resolved))
    candidate = contest(resolved, version, run_key).candidate
    while True:
        versions = contest(resolved, candidate)
        decision = _judge(resolved, versions, federation)
        refused = reasons(decision) or _refusal(resolved, approved)
        if refused:
            outcome = _outcome(resolved.name, candidate, decision, refused, versions)
            return Completed(name=REFUSED, message="; ".join(refused), data=outcome)
        approved = True
        with one_promotion_of(resolved.name):
            if contest(resolved, candidate).champion != versions.champion:
                continue  # somebody else promoted meanwhile: it is another contest
            moved = move_aliases(resolved.name, candidate)
        outcome = _outcome(resolved.name, candidate, decision, [], moved)
        return Completed(name="Promoted", message=f"version {candidate} is the champion", data=outcome)


def _judge(plan: Plan, versions: Contest, federation: Sealed[Federation]) -> Decision:
    candidate = score_version(plan.name, versions.candidate, federation)
    champion = None if versions.champion is None else score_version(plan.name, versions.champion, federation)
    return judge_candidate(plan, versions.candidate, candidate, champion).value


@flow(name="rollback", flow_run_name=run_name, persist_result=False)
def rollback(name: str) -> Promoted:
    """Makes the previous champion of a model the champion again.

    Raises:
        InputError: there is none.
        TrackingError: MLflow cannot be reached.
    """
    require_mlflow()
    with one_promotion_of(name):
        moved = restore_previous(name)
    return Promoted(
        model_name=name,
        version=str(moved.champion),
        promoted=True,
        reasons=[],
        champion=moved.champion,
        previous=moved.previous,
    )


def _refusal(plan: Plan, approved: bool) -> list[str]:
    """A person's no, or silence, where one is asked."""
    if not plan.promotion.approval or approved:
        return []
    if runtime.deployment.id is None:
        return ["approval: a person must approve; --approve says that one has"]
    said = pause_flow_run(wait_for_input=Approval, timeout=_DAY, key="approval")
    return [] if said.approve else [f"approval: refused by a person: {said.comment or 'no comment'}"]


def _outcome(name: str, version: str, decision: Decision, refused: list[str], serving: Contest) -> Promoted:
    return Promoted(
        model_name=name,
        version=version,
        promoted=not refused,
        reasons=refused,
        champion=serving.champion,
        previous=serving.previous,
        verdicts=[verdict._asdict() for verdict in decision.verdicts],
    )
