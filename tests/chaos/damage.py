"""What disks do to the latest checkpoint between two attempts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.chaos.attempts import Training

Damage = Callable[[Training], None]


def none(training: Training) -> None:
    """The disk is fine."""


def truncated(training: Training) -> None:
    """The second half is gone."""
    path = latest_state(training)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(training: Training) -> None:
    """A byte in the middle is another one."""
    path = latest_state(training)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def deleted(training: Training) -> None:
    """It is gone."""
    latest_state(training).unlink()


def latest_state(training: Training) -> Path:
    """The state that the next attempt would go on from."""
    number = max(training.recorded())
    (path,) = (training.folder / "states").glob(f"{number:06d}-*")
    return path
