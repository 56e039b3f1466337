"""Flow runs whose process was killed: nobody else tells Prefect."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from configs.plan import Plan
from tasks.unfinished import end_killed, unfinished

_ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def end_dead(noted: Sequence[str], run_key: str) -> None:
    """Marks those that seem to run as crashed, and their tasks too.

    They are those that the journal of the training ``noted``; and, where the user gave a ``run_key``, those that were
    given the same and died before they could be noted. Only for a caller that knows that they are dead: the journal
    is open in one process at a time.
    """
    if not noted and not run_key:
        return
    with get_client(sync_client=True) as client:
        unnoted = _given(client, run_key) if run_key else []
        for flow_run_id in {*map(UUID, noted), *unnoted}:
            _end(client, flow_run_id)


def end_abandoned(plan: Plan) -> None:
    """Ends trainings of a plan, here and in MLflow, whose worker died with its machine.

    Only for the run of a deployment that holds the place of its plan: no other deployed training of it can be alive.

    Raises:
        TrackingError: MLflow cannot be read.
    """
    for run_id, flow_run_id in unfinished(plan).items():
        if flow_run_id == str(runtime.flow_run.id):
            continue
        with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):  # another server's
            if client.read_flow_run(UUID(flow_run_id)).deployment_id is not None:
                _end(client, UUID(flow_run_id))
                end_killed(run_id)


def _given(client: SyncPrefectClient, run_key: str) -> list[UUID]:
    """Runs of this flow, on the same plan, that were given the key and seem to run. Deployments' the worker ends."""
    same = FlowRunFilter(
        name=FlowRunFilterName(any_=[str(runtime.flow_run.name)]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ALIVE)),
    )
    flow = FlowFilter(name=FlowFilterName(any_=[str(runtime.flow_run.flow_name)]))
    return [
        run.id
        for run in client.read_flow_runs(flow_filter=flow, flow_run_filter=same)
        if run.deployment_id is None and run.parameters.get("run_key") == run_key and str(run.id) != runtime.flow_run.id
    ]


def _end(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    try:
        found = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return  # another server's
    crashed = Crashed(message=f"its process ended; flow run {runtime.flow_run.id} found it so")
    if found.state is not None and found.state.type in _ALIVE:
        client.set_flow_run_state(flow_run_id, crashed, force=True)
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState.model_validate({"type": {"any_": _ALIVE}})),
    )
    for task_run in tasks:
        client.set_task_run_state(task_run.id, crashed, force=True)
