"""What tests of the command share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.roundhouse.commands import Running


@pytest.fixture(autouse=True)
def _leave_nothing_running() -> Iterator[None]:
    """A command that a failed test has started does not slow down the others."""
    before = len(Running.started)
    yield
    for process in Running.started[before:]:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
