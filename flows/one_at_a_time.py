"""One training of a plan at a time, one promotion of a model: whoever started it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from filelock import FileLock
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from configs import environment

LEASE_SECONDS = 60
"""The shortest that Prefect grants: for so long the place of a training that died stays taken."""


@contextlib.contextmanager
def one_training_of(plan: str) -> Iterator[None]:
    """Waits until no other deployed training of ``plan`` runs, and holds its place until the end.

    The place is leased: that of a training that dies is free when its lease runs out. A training whose lease cannot
    be renewed, since Prefect is away, goes on: another beside it costs time, not rounds. Runs outside a deployment
    hold none.
    """
    with _place(f"plan-{plan}") if _is_deployed() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def one_promotion_of(name: str) -> Iterator[None]:
    """Waits until nobody else moves the aliases of a model: nobody with the same Prefect server or on this machine."""
    folder = environment.home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    shared = _is_deployed() or environment.prefect_is_a_server()
    with (
        _place(f"promotion-{name}") if shared else contextlib.nullcontext(),
        FileLock(folder / f"promotion-{name}.lock"),
    ):
        yield


def _is_deployed() -> bool:
    return runtime.deployment.id is not None


@contextlib.contextmanager
def _place(name: str) -> Iterator[None]:
    _ensure_limit(name)
    with concurrency(name, occupy=1, strict=True, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
        yield


def _ensure_limit(name: str) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            with contextlib.suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
