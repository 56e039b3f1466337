"""Servers that are away when a run begins."""

from __future__ import annotations

import threading

from prefect import runtime

from tasks.tracking import patiently, require_mlflow


def await_mlflow() -> None:
    """Says early that MLflow cannot be reached. The run of a deployment, which nobody watches, waits ten minutes first.

    Raises:
        TrackingError: a server is configured and does not answer.
    """
    if runtime.deployment.id is None:
        require_mlflow()
    else:
        patiently(require_mlflow, threading.Event())
