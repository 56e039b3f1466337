"""Flow runs whose process was killed: nobody else tells Prefect."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterState
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

_ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]


def end_dead(flow_run_ids: Sequence[str]) -> None:
    """Marks those that seem to run as crashed, and their tasks too.

    Only for a caller that knows that they are dead: the journal of a training is open in one process at a time.
    """
    if not flow_run_ids:
        return
    with get_client(sync_client=True) as client:
        for flow_run_id in flow_run_ids:
            _end(client, UUID(flow_run_id))


def _end(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    try:
        found = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return  # another server's
    crashed = Crashed(message=f"its process ended; flow run {runtime.flow_run.id} goes on")
    if found.state is not None and found.state.type in _ALIVE:
        client.set_flow_run_state(flow_run_id, crashed, force=True)
    tasks = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState.model_validate({"type": {"any_": _ALIVE}})),
    )
    for task_run in tasks:
        client.set_task_run_state(task_run.id, crashed, force=True)
