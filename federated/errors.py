"""Errors that a user can mend; each message says what was expected, what came and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class InputError(ValueError):
    """Something that a user wrote or supplied is wrong."""


class PlanError(InputError):
    """The plan is wrong."""


class DataError(InputError):
    """The data are wrong."""


class TrainingError(RuntimeError):
    """A training that started could not go on."""


class StageError(RuntimeError):
    """A stage of a round broke off. It may be well when it is done again."""


def row(place: int) -> str:
    """The row at a ``place`` from 0, as every message counts: from 1, and a heading is no row."""
    return f"row {place + 1} (counted from 1)"


@contextlib.contextmanager
def stage(round: int, name: str, client: str = "") -> Iterator[None]:
    """Says where an error came from that nobody has foreseen.

    Raises:
        StageError: in place of such an error, with the round, the client, the stage and the error's first line.
    """
    try:
        yield
    except (InputError, TrainingError, StageError, TrackingError):
        raise
    except Exception as error:
        whose = f", client {client}" if client else ""
        raise StageError(f"round {round}{whose}, {name}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Its kind, where it says nothing else; TensorFlow begins with where in its graph it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Graph execution error", "Detected at", "File ", "[["))]
    return (telling or lines or [type(error).__name__])[0]


class TrackingError(RuntimeError):
    """MLflow could not be reached, or could not store what it was given."""


class RefusedError(TrackingError):
    """MLflow will not take it from this user, or not at all: to ask again changes nothing."""
