"""A rule from your own code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    @property
    def share(self) -> float | None:
        return self.rule.share

    @property
    def robust(self) -> bool:
        return self.rule.robust

    @property
    def equal(self) -> bool:
        return self.rule.equal

    @property
    def least(self) -> int:
        return self.rule.least

    @property
    def needs_loss(self) -> bool:
        return self.rule.needs_loss

    @property
    def needs_root(self) -> bool:
        return self.rule.needs_root

    @property
    def named(self) -> frozenset[str]:
        return self.rule.named

    def weigh(self, client: str, card: Mapping[str, str | float], examples: int) -> float:
        return self.rule.weigh(client, card, examples)

    def init(self, size: int) -> Any:
        return self.rule.init(size)

    def guided(self, state: Any, root: Vector) -> Any:
        return self.rule.guided(state, root)

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return self.rule.next(state, updates)
