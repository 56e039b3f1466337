"""Two clean streams: what the command says goes to the terminal, what libraries say goes to a file."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console

from configs import environment


class Streams(NamedTuple):
    """Results go to ``out``, progress and errors to ``err``."""

    out: Console
    err: Console


@contextlib.contextmanager
def clean_streams(debug: bool) -> Iterator[Streams]:
    """The terminal for this command alone. With ``debug`` everything goes there.

    TensorFlow's C++ and child processes write to file descriptors, so these are what is redirected.
    """
    if debug:
        yield Streams(Console(), Console(stderr=True))
        return
    log = environment.log_file()
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with (
        log.open("w", encoding="utf-8") as file,
        open(kept[0], "w", encoding="utf-8", closefd=False) as out,
        open(kept[1], "w", encoding="utf-8", closefd=False) as err,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield Streams(Console(file=out), Console(file=err))
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
