"""A field of a plan that is a word or a number, refused in one line."""

from __future__ import annotations

from typing import Any

from pydantic import Discriminator, Tag

WORD, NUMBER = Tag("word"), Tag("number")
"""What each of the two members of the union is marked with."""


def _which(value: Any) -> str:
    return "word" if isinstance(value, str) else "number"


WORD_OR_NUMBER = Discriminator(_which)
"""Tells them apart by their type, so that a wrong value has one fault and not two."""
