"""How a caller in the same process follows a training as it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from configs.plan import Plan
    from tasks.training import RoundReport


class Watcher(Protocol):
    """Hears what a training does; must return quickly."""

    def begins(self, plan: Plan, parameters: int, run_key: str, rounds_done: int) -> None:
        """The data are loaded and the model is built; ``rounds_done`` were committed by an attempt before."""

    def notes(self, text: str) -> None:
        """Something that a person should know."""

    def round_done(self, report: RoundReport) -> None:
        """A round is over."""

    def compares(self) -> None:
        """Rounds are over; the baselines train."""

    def stops(self) -> None:
        """Ctrl-C: what runs comes to its end."""


class Unwatched:
    """Nobody follows."""

    def begins(self, plan: Plan, parameters: int, run_key: str, rounds_done: int) -> None:
        return None

    def notes(self, text: str) -> None:
        return None

    def round_done(self, report: RoundReport) -> None:
        return None

    def compares(self) -> None:
        return None

    def stops(self) -> None:
        return None


_watcher: ContextVar[Watcher] = ContextVar("watcher")


@contextlib.contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Trainings started inside are followed by ``watcher``."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Watcher:
    """Who follows the training that runs here."""
    return _watcher.get(Unwatched())


def tell(text: str) -> None:
    """Something that a person should know, to who follows and to the flow run's log."""
    from prefect import get_run_logger
    from prefect.exceptions import MissingContextError

    watcher().notes(text)
    with contextlib.suppress(MissingContextError):
        get_run_logger().warning(text)
