"""Flows on a worker: a run of their deployment, followed to its end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from federated.errors import TrainingError
from roundhouse.training import require_prefect

_POLL_SECONDS = 1.0


class Ended(NamedTuple):
    """How a flow run on a worker ended; ``state`` is its state's name."""

    flow_run_id: str
    name: str
    state: str
    message: str


def run_deployed(deployment: str, parameters: dict[str, Any], says: Callable[[str], None]) -> Ended:
    """Starts a run of ``deployment`` and waits; ``says`` hears where it is, and every state it comes to.

    Raises:
        TrainingError: no server is configured, it has no such deployment, or the run did not complete.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise TrainingError("PREFECT_API_URL: --on-worker needs a Prefect server; roundhouse up starts one")
    require_prefect()
    from prefect.client.orchestration import get_client
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound
    from prefect.utilities.urls import url_for

    try:
        started = run_deployment(deployment, parameters=parameters, timeout=0, as_subflow=False)
    except ObjectNotFound as error:
        raise TrainingError(f"the Prefect server has no {deployment}; prefect --no-prompt deploy --all") from error
    says(f"flow run {started.name}: {url_for(started)}")
    state, said = started.state, ""
    try:
        with get_client(sync_client=True) as client:
            while state is None or not state.is_final():
                if state is not None and state.name != said:
                    said = str(state.name)
                    says(said.lower())
                time.sleep(_POLL_SECONDS)
                state = client.read_flow_run(started.id).state
    except KeyboardInterrupt:
        says(f"it goes on; prefect flow-run cancel {started.id} ends it")
        raise
    if not state.is_completed():
        raise TrainingError(f"flow run {started.name}: {state.name}: {state.message}")
    return Ended(str(started.id), started.name, str(state.name), state.message or "")
