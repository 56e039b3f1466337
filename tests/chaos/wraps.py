"""Ways to die around a function: before it, after it, halfway through what it writes."""

from __future__ import annotations

import errno
import functools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.chaos.fuse import Fuse, bound, note, round_in

Function = Callable[..., Any]
Wrap = Callable[[Function, Fuse], Function]

_CALLS_OF_A_ROUND = 3


def before(function: Function, fuse: Fuse) -> Function:
    """Dies in place of the call."""

    @functools.wraps(function)
    def dying(*args: Any, **kwargs: Any) -> Any:
        if fuse.is_due(bound(function, args, kwargs)):
            fuse.blow()
        return function(*args, **kwargs)

    return dying


def after(function: Function, fuse: Fuse) -> Function:
    """Does it, and dies before the caller hears of it."""

    @functools.wraps(function)
    def dying(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if fuse.is_due(bound(function, args, kwargs)):
            fuse.blow()
        return result

    return dying


def third(function: Function, fuse: Fuse) -> Function:
    """Dies in the third call of the round."""
    calls: list[int] = []

    @functools.wraps(function)
    def dying(*args: Any, **kwargs: Any) -> Any:
        if fuse.is_due(bound(function, args, kwargs)):
            calls.append(1)
            if len(calls) == _CALLS_OF_A_ROUND:
                fuse.blow()
        return function(*args, **kwargs)

    return dying


def a_while_after(function: Function, fuse: Fuse) -> Function:
    """Dies some time after the first call."""
    calls: list[int] = []

    @functools.wraps(function)
    def lighting(*args: Any, **kwargs: Any) -> Any:
        if not calls:
            calls.append(1)
            fuse.light()
        return function(*args, **kwargs)

    return lighting


def slowed(function: Function, fuse: Fuse) -> Function:
    """Nobody dies; every call takes some tenths of a second longer."""

    @functools.wraps(function)
    def dawdling(*args: Any, **kwargs: Any) -> Any:
        time.sleep(fuse.number / 10)
        return function(*args, **kwargs)

    return dawdling


def leased_for(concurrency: Function, fuse: Fuse) -> Function:
    """Nobody dies; a place among Prefect's limits is leased for a number of seconds."""
    return functools.partial(concurrency, lease_duration=fuse.number)


def unanswered(function: Function, fuse: Fuse) -> Function:
    """Nobody dies; it is done, and once the answer is lost on the way."""
    lost: list[int] = []

    @functools.wraps(function)
    def losing(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if not lost and fuse.is_due(bound(function, args, kwargs)):
            lost.append(1)
            note(unanswered=function.__qualname__, at=fuse.number)
            raise ConnectionResetError("Connection reset by peer")
        return result

    return losing


def refused(function: Function, fuse: Fuse) -> Function:
    """Nobody dies; once it is not done, for a reason that waiting does not mend."""
    refusals: list[int] = []

    @functools.wraps(function)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        if not refusals and fuse.is_due(bound(function, args, kwargs)):
            refusals.append(1)
            note(refused=function.__qualname__, at=fuse.number)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*args, **kwargs)

    return refusing


def after_a_figure(log_file: Function, fuse: Fuse) -> Function:
    """Dies when the how-many-th figure is stored, and others are not."""

    @functools.wraps(log_file)
    def dying(*args: Any, **kwargs: Any) -> Any:
        log_file(*args, **kwargs)
        named = bound(log_file, args, kwargs)["name"]
        if named.startswith("figures/") and fuse.is_due({}):
            fuse.blow()

    return dying


def notes_the_round(function: Function, fuse: Fuse) -> Function:
    """Tells the fuse which round it is."""

    @functools.wraps(function)
    def noting(*args: Any, **kwargs: Any) -> Any:
        fuse.round = round_in(bound(function, args, kwargs))
        return function(*args, **kwargs)

    return noting


def writes_the_round_down(function: Function, fuse: Fuse) -> Function:
    """Puts a round that begins into the diary."""

    @functools.wraps(function)
    def writing(*args: Any, **kwargs: Any) -> Any:
        note(begun=round_in(bound(function, args, kwargs)))
        return function(*args, **kwargs)

    return writing


def half_a_file(kind: str) -> Wrap:
    """Dies with half of the bytes of a round's file on disk; ``kind`` is its folder."""

    def wrap(write: Function, fuse: Fuse) -> Function:
        def dying(path: Path, content: bytes) -> None:
            due = path.parent.name == kind and fuse.is_due({"round": int(path.name.partition("-")[0])})
            if not due:
                return write(path, content)
            with patch.object(Path, "open", _opening(path.name, fuse)):
                return write(path, content)

        return dying

    return wrap


def _opening(name: str, fuse: Fuse) -> Function:
    """``Path.open``, but for one file, under whatever temporary name."""
    opens = Path.open

    def opening(path: Path, *args: Any, **kwargs: Any) -> Any:
        file = opens(path, *args, **kwargs)
        return _HalfWritten(file, fuse) if name in path.name else file

    return opening


class _HalfWritten:
    """A file that takes half of what it is given."""

    def __init__(self, file: Any, fuse: Fuse) -> None:
        self._file, self._fuse = file, fuse

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def write(self, content: bytes) -> None:
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        self._fuse.blow()


def half_an_upload(get_repository: Function, fuse: Fuse) -> Function:
    """Dies when half of the files are uploaded, and of the next one half."""

    @functools.wraps(get_repository)
    def giving(*args: Any, **kwargs: Any) -> Any:
        repository = get_repository(*args, **kwargs)
        if fuse.round is not None and fuse.is_due({}):
            repository.log_artifacts = lambda folder, *_: _upload_half(repository, Path(folder), fuse)
        return repository

    return giving


def _upload_half(repository: Any, folder: Path, fuse: Fuse) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole, torn = files[: len(files) // 2], files[len(files) // 2]
    for path in whole:
        repository.log_artifact(str(path), _place(path, folder))
    content = torn.read_bytes()
    half = Path(tempfile.mkdtemp()) / torn.name
    half.write_bytes(content[: len(content) // 2])
    repository.log_artifact(str(half), _place(torn, folder))
    fuse.blow()


def _place(path: Path, folder: Path) -> str | None:
    place = path.parent.relative_to(folder).as_posix()
    return None if place == "." else place
