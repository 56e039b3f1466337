"""Two clean streams: what the command says goes to the terminal, what libraries say goes to a file."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, TextIO

from rich.console import Console

from federated.errors import InputError


class Streams(NamedTuple):
    """Results go to ``out``, progress and errors to ``err``."""

    out: Console
    err: Console


@contextlib.contextmanager
def clean_streams(log: Path | None, debug: bool) -> Iterator[Streams]:
    """The terminal for this command alone; what libraries say goes to ``log``, or nowhere. With ``debug`` all is shown.

    TensorFlow's C++ and child processes write to file descriptors, so these are what is redirected.

    Raises:
        InputError: the log cannot be written.
    """
    if debug:
        yield Streams(_console(sys.stdout), _console(sys.stderr))
        return
    with (
        _opened(log) as file,
        _elsewhere(1, file.fileno()) as out,
        _elsewhere(2, file.fileno()) as err,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield Streams(_console(out), _console(err))


def _opened(log: Path | None) -> IO[str]:
    if log is None:
        return tempfile.TemporaryFile("w", encoding="utf-8")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(f"ROUNDHOUSE_HOME: cannot write {log} ({error.strerror}); choose another folder") from error


def _console(file: TextIO) -> Console:
    """As wide as the terminal; wide enough for any table in a file or a pipe."""
    return Console(file=file, width=None if file.isatty() else 160)


@contextlib.contextmanager
def _elsewhere(descriptor: int, target: int) -> Iterator[TextIO]:
    """Whatever is written to ``descriptor`` goes to ``target``; gives what it was."""
    stream = {1: sys.stdout, 2: sys.stderr}[descriptor]
    stream.flush()
    with os.fdopen(os.dup(descriptor), "w", encoding="utf-8") as kept:
        os.dup2(target, descriptor)
        try:
            yield kept
        finally:
            stream.flush()
            os.dup2(kept.fileno(), descriptor)
