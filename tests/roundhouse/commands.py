"""The command as a user runs it: in a process of its own, or, a second or two quicker, in this one."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, ClassVar
from unittest import mock


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment, with a home and no servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    return {**kept, "ROUNDHOUSE_HOME": str(home), **(extra or {})}


def roundhouse(
    home: Path, *arguments: str, extra: Mapping[str, str] | None = None, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end. ``largest_file`` is a limit in bytes that the system puts on files."""

    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-m", "roundhouse", *arguments],
        env=environment(home, extra),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
        check=False,
    )


def here(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, for what needs no signals and no Prefect."""
    from roundhouse.cli import app

    with (
        mock.patch.dict(os.environ, environment(home), clear=True),
        tempfile.TemporaryFile("w+", encoding="utf-8") as out,
        tempfile.TemporaryFile("w+", encoding="utf-8") as err,
    ):
        with _into(1, out), _into(2, err):
            try:
                app(arguments, prog_name="roundhouse")
            except SystemExit as end:
                code = end.code
        printed = [(file.seek(0), file.read())[1] for file in (out, err)]
    return subprocess.CompletedProcess(arguments, int(code or 0), *printed)


@contextlib.contextmanager
def _into(descriptor: int, file: IO[str]) -> Iterator[None]:
    """Whatever is printed, or written to ``descriptor``, goes to ``file``."""
    redirected = {1: contextlib.redirect_stdout, 2: contextlib.redirect_stderr}[descriptor]
    kept = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", closefd=False) as stream, redirected(stream):
            yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


class Running:
    """The command while it runs, with what it has printed so far in a file."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, home: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> None:
        self._log = home.parent / f"{uuid.uuid4()}.log"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "roundhouse", *arguments],
                env=environment(home, extra),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_hears_ctrl_c,
            )
        self.started.append(self.process)

    @property
    def printed(self) -> str:
        """Everything so far."""
        return self._log.read_text()

    def wait_for(self, text: str, seconds: float = 180) -> None:
        """Until ``text`` is printed."""
        wait_until(lambda: text in self.printed or self.process.poll() is not None, seconds)
        assert text in self.printed, self.printed

    def end(self, number: signal.Signals) -> int:
        """Sends a signal as a terminal or a kill would; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=180)


def _hears_ctrl_c() -> None:
    """As in a terminal, also where the tests themselves were started in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Looks every tenth of a second."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)
