"""A training from the command line: everything slow starts at once, and the flow runs in this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import UUID

from rich.console import Console

from configs.plan import Plan
from federated.errors import TrainingError
from roundhouse.embedded import EmbeddedPrefect, embedded_prefect
from tasks.reachability import require
from tasks.tracking import require_mlflow

if TYPE_CHECKING:
    from tasks.summary import Summary


def run_training(plan: Plan, console: Console) -> Summary:
    """Runs the flow ``train``, with a display on ``console``.

    Raises:
        InputError: the plan and the data do not fit; nothing has been stored.
        TrainingError: the training failed, or Prefect cannot be reached.
        TrackingError: MLflow failed.
        KeyboardInterrupt: the training was cancelled.
    """
    require_mlflow()
    _require_prefect()
    plan.federation()  # bad data should not leave a failed run, nor a server half started
    with embedded_prefect() as server:
        # Prefect takes its settings from the environment when it is imported: from here on.
        from flows.watching import watched_by
        from roundhouse.display import displayed

        with displayed(console) as display, watched_by(display):
            display.says("starting TensorFlow and Prefect")
            _import_what_is_slow()

            if server is not None:
                server.wait_until_ready()
            return _run_flow(plan, server)


def _import_what_is_slow() -> None:
    """While the server starts."""
    import fastapi  # noqa: F401 - by Prefect, when a flow is called

    import flows.train  # noqa: F401
    import models.keras_engine  # noqa: F401


def _run_flow(plan: Plan, server: EmbeddedPrefect | None) -> Summary:
    from flows.train import train

    flow_run_id: UUID | None = None
    try:
        state = train(plan, return_state=True)
        flow_run_id = state.state_details.flow_run_id
    finally:
        if server is not None:
            server.settle(flow_run_id)
    if state.is_cancelled():
        raise KeyboardInterrupt
    return state.result()  # type: ignore[no-any-return]


def _require_prefect() -> None:
    url = os.environ.get("PREFECT_API_URL")
    if url:
        require(f"{url.rstrip('/')}/health", "Prefect", "PREFECT_API_URL", TrainingError)
