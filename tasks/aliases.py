"""The aliases that say which version serves. There is a champion at every instant."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from federated.errors import InputError, TrackingError, TrainingError
from tasks.promoting import PROMOTED_AT, Contest
from tasks.stored import Library
from tasks.tracking import storing
from tasks.verifying import opened_sound
from tasks.versions import CANDIDATE, CHAMPION, PREVIOUS


@task(task_run_name="move_aliases {name}/{version}", cache_policy=NO_CACHE, persist_result=False)
def move_aliases(name: str, version: str) -> Contest:
    """Makes a version the champion and the champion the previous one, once it has been verified again.

    Raises:
        InputError: retention has removed its weights since it was scored.
        TrainingError: it has changed since, or somebody else moved the aliases meanwhile.
        TrackingError: MLflow refused.
    """
    _require_sound(name, version)
    library = Library()
    champion = library.alias(name, CHAMPION)
    if champion not in (None, version):
        _point(library, name, PREVIOUS, champion)
    with storing("the aliases"):
        library.client.set_model_version_tag(name, version, PROMOTED_AT, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}")
    _point(library, name, CHAMPION, version)
    _remove_candidate(library, name, version)
    if library.alias(name, CHAMPION) != version:
        raise TrainingError(f"{name}: another promotion moved the champion at the same time; look, and promote again")
    return Contest(version, version, library.alias(name, PREVIOUS))


@task(task_run_name="restore_previous {name}", cache_policy=NO_CACHE, persist_result=False)
def restore_previous(name: str, force: bool = False) -> Contest:
    """Makes the previous champion the champion again, and the champion the previous one.

    Raises:
        InputError: there is no previous champion; or it has no weights any more, and ``force`` is false.
        TrainingError: it is not what its training registered, and ``force`` is false.
        TrackingError: MLflow refused.
    """
    library = Library()
    champion, previous = library.alias(name, CHAMPION), library.alias(name, PREVIOUS)
    if previous is None or previous == champion:
        raise InputError(f"{name}: there is no previous champion to go back to")
    if not force:
        _require_restorable(name, previous)
    _point(library, name, CHAMPION, previous)
    if champion is not None:
        _point(library, name, PREVIOUS, champion)
    return Contest(previous, previous, champion)


def _require_sound(name: str, version: str) -> None:
    with opened_sound(f"{name}/{version}"):
        pass


def _require_restorable(name: str, version: str) -> None:
    try:
        _require_sound(name, version)
    except (InputError, TrainingError) as error:
        raise type(error)(f"{error}; --force rolls back all the same") from error


def _point(library: Library, name: str, alias: str, version: str) -> None:
    """Sets an alias. Where the answer was lost, what MLflow holds says whether it was done."""
    try:
        with storing("the aliases"):
            library.client.set_registered_model_alias(name, alias, version)
    except TrackingError:
        if library.alias(name, alias) != version:
            raise


def _remove_candidate(library: Library, name: str, version: str) -> None:
    if library.alias(name, CANDIDATE) != version:
        return
    try:
        with storing("the aliases"):
            library.client.delete_registered_model_alias(name, CANDIDATE)
    except TrackingError:
        if library.alias(name, CANDIDATE) == version:
            raise
