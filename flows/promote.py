"""A candidate becomes the champion, or is refused with reasons; and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Completed, Running, State
from pydantic import ValidationError

from configs.loading import resolve_plan
from configs.plan import Plan
from federated.federation import Federation
from federated.promotion import Decision
from flows.named import run_name
from flows.one_at_a_time import one_promotion_of
from flows.waiting import await_mlflow
from tasks.aliases import move_aliases, restore_previous
from tasks.promoting import (
    Contest,
    Promoted,
    contest,
    judge_candidate,
    note_approval,
    raw_federation,
    reasons,
    score_version,
)
from tasks.training import Sealed

REFUSED = "Refused"
"""The name of the state in which a promotion that was refused ends."""

NO_GATES = "the plan has no gates: nothing was compared"
"""What is said of a promotion that no gate has judged."""

_DAY = 86_400


class Approval(RunInput):
    """What a person says of a candidate that passed every gate."""

    approve: bool
    comment: str = ""


class Answer(NamedTuple):
    """A person's ``decision``: approved, refused or not answered."""

    decision: str
    comment: str

    @property
    def refusal(self) -> list[str]:
        """Why the candidate is refused; nothing where it is approved."""
        by = {"approved": None, "refused": "refused by a person: ", "not answered": ""}[self.decision]
        return [] if by is None else [f"approval: {by}{self.comment}"]


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
    await_mlflow()
    federation = Sealed(raw_federation(resolved))
    candidate = contest(resolved, version, run_key).candidate
    answer = Answer("approved", "by --approve") if approved else None
    while True:
        versions = contest(resolved, candidate)
        decision = _judge(resolved, versions, federation)
        refused = reasons(decision)
        if not refused and resolved.promotion.approval:
            answer = answer or _ask(candidate)
            note_approval(resolved.name, candidate, answer.decision, answer.comment)
            refused = answer.refusal
        if refused:
            outcome = _outcome(resolved.name, candidate, decision, refused, versions)
            return Completed(name=REFUSED, message="; ".join(refused), data=outcome)
        with one_promotion_of(resolved.name):
            if contest(resolved, candidate).champion != versions.champion:
                continue  # somebody else promoted meanwhile: it is another contest
            moved = move_aliases(resolved.name, candidate)
        outcome = _outcome(resolved.name, candidate, decision, [], moved)
        unjudged = "" if decision.verdicts else f"; {NO_GATES}"
        return Completed(name="Promoted", message=f"version {candidate} is the champion{unjudged}", data=outcome)


def _judge(plan: Plan, versions: Contest, federation: Sealed[Federation]) -> Decision:
    candidate = score_version(plan.name, versions.candidate, federation)
    champion = None if versions.champion is None else score_version(plan.name, versions.champion, federation)
    return judge_candidate(plan, versions.candidate, candidate, champion).value


@flow(name="rollback", flow_run_name=run_name, persist_result=False)
def rollback(name: str, force: bool = False) -> Promoted:
    """Makes the previous champion of a model the champion again.

    Raises:
        InputError: there is none; or it has no weights any more, and ``force`` is false.
        TrainingError: it is not what its training registered, and ``force`` is false.
        TrackingError: MLflow cannot be reached.
    """
    await_mlflow()
    with one_promotion_of(name):
        moved = restore_previous(name, force)
    return Promoted(
        model_name=name,
        version=str(moved.champion),
        promoted=True,
        reasons=[],
        champion=moved.champion,
        previous=moved.previous,
    )


def _ask(candidate: str) -> Answer:
    """What a person says of a candidate; a retry is told what was said before."""
    if runtime.deployment.id is None:
        return Answer("not answered", "a person must approve; --approve says that one has")
    try:
        said: Approval | None = pause_flow_run(wait_for_input=Approval, timeout=_DAY, key=f"approval-{candidate}")
    except FlowPauseTimeout:
        _go_on_after_the_pause()
        said = None
    except ValidationError:  # a retry, and nobody had answered
        said = None
    if said is None:
        return Answer("not answered", "nobody answered; promote the version again")
    return Answer("approved" if said.approve else "refused", said.comment or "no comment")


def _go_on_after_the_pause() -> None:
    """Makes a run whose pause has expired a running one again: Prefect would let it end as Failed only."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(runtime.flow_run.id), Running(), force=True)


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
