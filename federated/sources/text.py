"""Text, character by character."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from federated.data import Dataset, Rows, Split
from federated.errors import DataError
from federated.sources.reading import content, reason, require_column, table
from federated.sources.sliding import starts
from federated.sources.source import Source

_SPEAKER = re.compile(r"(?:\A|\n[^\S\n]*\n)[^\S\n]*(\S[^\n:]*):[^\S\n]*(?=\n|\Z)")
"""At the beginning or after a blank line: a name and a colon, alone on their line."""

_NAMED = 5  # speakers that a remark names


class _Spoken(NamedTuple):
    """All that one client says, as characters' numbers, and where windows begin in it."""

    client: str
    codes: NDArray[np.int32]
    train: Rows
    test: Rows

    @property
    def first(self) -> Rows:
        """Where all windows begin."""
        return np.concatenate([self.train, self.test])


class Text(Source):
    """The next character from the ``past`` ones; each speaker is a client (McMahan et al. 2017, section 3).

    A file is a play, in which the name of whoever speaks stands with a colon alone on a line, at the beginning or after
    a blank line; what stands before the first name is passed over. Or it is a table with the columns ``speaker`` and
    ``speech``. Speeches of one speaker are joined by line ends.

    Examples have shape (past,) and hold the characters' numbers for ``model: {kind: gru, vocabulary: …}``; the class is
    the next character. Characters are those of ``alphabet``; null: all that anybody says, sorted, so that clients know
    each other's characters, and a new one renumbers those behind it.

    *Guarantees:* windows overlap. The last ``test_share`` of each speaker's text is reserved for testing, and windows
    across the cut are left out: no character is both trained and tested on. A plan keeps to it with
    ``holdout: {test: given, client_test: given, validation: 0}``.

    Speakers with fewer than ``min_rows`` windows to train on, or none to test on, are left out, which a remark says:
    plays have many.
    """

    kind: Literal["text"] = "text"
    path: Path
    past: int = Field(default=80, ge=1, description="characters that are seen")
    step: int = Field(default=1, ge=1, description="characters from one window to the next")
    speaker: str | None = Field(default=None, description="column of names; null: the file is a play")
    speech: str | None = Field(default=None, description="column of texts; null: the file is a play")
    alphabet: str | None = Field(default=None, min_length=2)
    min_rows: int = Field(default=2, ge=1)
    test_share: float = Field(default=0.2, ge=0, lt=1)

    @field_validator("alphabet")
    @classmethod
    def _each_once(cls, alphabet: str | None) -> str | None:
        if alphabet is not None and len(set(alphabet)) < len(alphabet):
            twice = sorted({one for one in alphabet if alphabet.count(one) > 1})
            raise ValueError(f"each character may be in it once, {twice[0]!r} is not")
        return alphabet

    @model_validator(mode="after")
    def _columns_come_in_pairs(self) -> Self:
        if (self.speaker is None) != (self.speech is None):
            raise ValueError("speaker and speech come together; name both columns, or none for a play")
        return self

    def load(self) -> Dataset:
        said = self._said()
        alphabet = self.alphabet or "".join(sorted(set().union(*said.values())))
        spoken = [self._spoken(name, text, alphabet) for name, text in sorted(said.items())]
        kept = [one for one in spoken if len(one.train) >= self.min_rows and (len(one.test) or not self.test_share)]
        if not kept:
            raise DataError(
                f"data.text: none of {len(said)} speakers in {self.path} has {self.min_rows} windows of "
                f"{self.past + 1} characters to train on and one to test on; lower past or min_rows"
            )
        keys = np.repeat([one.client for one in kept], [len(one.first) for one in kept])
        tests = np.concatenate([np.repeat([False, True], [len(one.train), len(one.test)]) for one in kept])
        reserved = tests if self.test_share else None
        rows, remarks = _windows(kept, self.past), self._remarks(sorted(said.keys() - set(keys)), len(said))
        return Dataset(rows, tuple(alphabet), f"data.text {self.path}", keys, reserved, remarks=remarks)

    def _remarks(self, silent: list[str], speakers: int) -> tuple[str, ...]:
        if not silent:
            return ()
        named = f"{', '.join(silent[:_NAMED])}{' …' if len(silent) > _NAMED else ''}"
        return (f"data.text: left out for too little text: {len(silent)} of {speakers} speakers ({named})",)

    def _said(self) -> dict[str, str]:
        """All that each speaker says."""
        speeches = self._play() if self.speaker is None else self._table()
        joined: dict[str, list[str]] = {}
        for name, speech in speeches:
            joined.setdefault(name, []).append(speech)
        return {name: "\n".join(parts) for name, parts in joined.items()}

    def _play(self) -> list[tuple[str, str]]:
        try:
            text = content("data.text.path", self.path).decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as error:
            raise DataError(f"data.text.path: expected UTF-8 text, {self.path} is none ({reason(error)})") from error
        _, *found = _SPEAKER.split(text)
        if not found:
            raise DataError(
                f"data.text.path: {self.path} names no speaker; expected a name and a colon alone on a line, at the "
                "beginning or after a blank line, or for a table its columns in speaker and speech"
            )
        return [(name.strip(), speech.strip("\n")) for name, speech in zip(found[::2], found[1::2], strict=True)]

    def _table(self) -> list[tuple[str, str]]:
        held = table("data.text.path", self.path, text=(str(self.speaker), str(self.speech)))
        for field, column in (("speaker", self.speaker), ("speech", self.speech)):
            require_column(f"data.text.{field}", self.path, str(column), held)
        return list(zip(held[self.speaker], held[self.speech], strict=True))

    def _spoken(self, name: str, text: str, alphabet: str) -> _Spoken:
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        known = np.array([ord(one) for one in alphabet], np.uint32)
        order = np.argsort(known)
        places = np.minimum(np.searchsorted(known, points, sorter=order), len(known) - 1)
        codes = order[places].astype(np.int32)
        strange = points[known[codes] != points]
        if strange.size:
            raise DataError(f"data.text.alphabet: {name} says {chr(strange[0])!r}, which is not in it; add it")
        return _Spoken(name, codes, *starts(len(codes), self.past + 1, self.step, self.test_share))


def _windows(spoken: list[_Spoken], past: int) -> Split:
    """``past`` characters and the one after them, of one speaker after the other."""
    x = np.empty((sum(len(one.first) for one in spoken), past), np.float32)
    done = 0
    for one in spoken:
        until = done + len(one.first)
        x[done:until] = np.lib.stride_tricks.sliding_window_view(one.codes, past)[one.first]
        done = until
    return Split(x, np.concatenate([one.codes[one.first + past] for one in spoken]))
