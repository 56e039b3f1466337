"""A rule from your own code."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from federated.component import Step, Vector
from federated.rules.rule import Rule
from federated.targets import Target, build
from federated.updates import Update


class CustomRule(Rule):
    """Your own rule: ``target`` names a ``Rule`` class, ``options`` are its fields."""

    kind: Literal["custom"] = "custom"
    target: Target
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _resolve(self) -> CustomRule:
        _ = self.rule
        return self

    @cached_property
    def rule(self) -> Rule:
        """The rule that ``target`` names."""
        return build(self.target, Rule, self.options)  # type: ignore[type-abstract]

    @property
    def additive(self) -> bool:
        return self.rule.additive

    @property
    def averages(self) -> bool:
        return self.rule.averages

    @property
    def normalises_steps(self) -> bool:
        return self.rule.normalises_steps

    def init(self, size: int) -> Any:
        return self.rule.init(size)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return self.rule.next(state, updates)
