"""Rows from your own code."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from federated.data import Dataset
from federated.sources.source import Source
from federated.targets import Target, build


class CustomSource(Source):
    """Your own loader: ``target`` names a function that takes ``options`` and returns a ``Dataset``."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    def load(self) -> Dataset:
        return build(self.target, Dataset, self.options)
