"""One training of a plan at a time, whichever deployment started it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound


@contextlib.contextmanager
def one_training_of(plan: str) -> Iterator[None]:
    """Waits until no other deployed training of ``plan`` runs, and holds its place until the end.

    The place is leased: a training that dies gives it back when its lease runs out. Runs outside a deployment
    hold none.
    """
    if runtime.deployment.id is None:
        yield
        return
    name = f"plan-{plan}"
    _ensure_limit(name)
    with concurrency(name, occupy=1, strict=True):
        yield


def _ensure_limit(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
