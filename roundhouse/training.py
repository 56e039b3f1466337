"""Flows from the command line: everything slow starts at once, and the flow runs in this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.console import Console

from configs.plan import Plan
from configs.remarks import remarks
from federated.errors import TrainingError
from roundhouse.command import note
from roundhouse.embedded import EmbeddedPrefect, deliver_reports, embedded_prefect
from tasks.reachability import require
from tasks.tracking import require_mlflow

if TYPE_CHECKING:
    from prefect.states import State

    from tasks.promoting import Promoted
    from tasks.summary import Summary


def run_training(plan: Plan, console: Console, run_key: str = "", accept_change: bool = False) -> Summary:
    """Runs the flow ``train``, with a display on ``console``.

    Raises:
        InputError: the plan and the data do not fit; nothing has been stored.
        TrainingError: the training failed, or Prefect cannot be reached.
        TrackingError: MLflow failed.
        KeyboardInterrupt: the training was cancelled.
    """
    _require_servers()
    federation = plan.federation()  # bad data should not leave a failed run, nor a server half started
    note(console, remarks(plan, federation))
    del federation  # the flow has its own
    with embedded_prefect() as server:
        # Prefect takes its settings from the environment when it is imported: from here on.
        from roundhouse.display import displayed
        from tasks.watching import watched_by

        with displayed(console) as display, watched_by(display):
            display.says("starting TensorFlow and Prefect")
            _import_what_is_slow()
            from flows.train import train

            summary: Summary = _result(
                server, lambda: train(plan, run_key=run_key, accept_change=accept_change, return_state=True)
            )
            return summary


def run_promotion(plan: Plan, version: str, run_key: str, approved: bool) -> Promoted:
    """Runs the flow ``promote``.

    Raises:
        InputError: the plan is wrong, or there is no such version.
        TrainingError: a version is not what its training registered, or Prefect cannot be reached.
        TrackingError: MLflow failed.
    """
    _require_servers()
    with embedded_prefect() as server:
        _import_what_is_slow()
        from flows.promote import promote

        outcome: Promoted = _result(
            server, lambda: promote(plan, version=version, run_key=run_key, approved=approved, return_state=True)
        )
        return outcome


def run_rollback(name: str, force: bool = False) -> Promoted:
    """Runs the flow ``rollback``.

    Raises:
        InputError: there is no previous champion; or it has no weights any more, and ``force`` is false.
        TrainingError: it is not what was registered, and ``force`` is false; or Prefect cannot be reached.
        TrackingError: MLflow failed.
    """
    _require_servers()
    with embedded_prefect() as server:
        from flows.promote import rollback

        outcome: Promoted = _result(server, lambda: rollback(name, force, return_state=True))
        return outcome


def _import_what_is_slow() -> None:
    """While the server starts."""
    import fastapi  # noqa: F401 - by Prefect, when a flow is called

    import flows.train  # noqa: F401
    import models.keras_engine  # noqa: F401


def _result(server: EmbeddedPrefect | None, run: Callable[[], State[Any]]) -> Any:
    """What a flow gives, once the embedded server has recorded it."""
    flow_run_id: UUID | None = None
    if server is not None:
        server.wait_until_ready()
    from httpx import TransportError
    from prefect.exceptions import PrefectHTTPStatusError

    url = os.environ["PREFECT_API_URL"]
    try:
        state = run()
        flow_run_id = state.state_details.flow_run_id
    except TransportError as error:
        raise TrainingError(f"Prefect went away at {url} ({error}); --run-key goes on once it is back") from error
    except PrefectHTTPStatusError as error:
        status = error.response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            said = "does not accept the user and password; correct PREFECT_API_AUTH_STRING"
        else:
            said = f"answered {status}; see its log, and {url}/ready for its database"
        raise TrainingError(f"Prefect at {url} {said}") from error
    finally:
        deliver_reports()
        if server is not None:
            server.settle(flow_run_id)
    if state.is_cancelled():
        raise KeyboardInterrupt
    return state.result()


def require_prefect() -> None:
    """Says early that Prefect's server cannot be reached.

    Raises:
        TrainingError: one is configured, and does not answer.
    """
    url = os.environ.get("PREFECT_API_URL")
    if url:
        require(f"{url.rstrip('/')}/ready", "Prefect", "PREFECT_API_URL", TrainingError)


def _require_servers() -> None:
    require_mlflow()
    require_prefect()
