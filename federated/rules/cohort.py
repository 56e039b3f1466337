"""The updates that a rule holds all at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federated.component import Vector
from federated.rules.rule import Rule
from federated.updates import Update


def gathered(rule: Rule, described: str, updates: Iterable[Update]) -> list[Update]:
    """The updates by their clients' names: no arithmetic depends on the order in which they came.

    ``described`` is what an error calls the rule.

    Raises:
        ValueError: there are fewer than the rule needs.
    """
    held = sorted(updates, key=lambda update: update.client)
    if len(held) < rule.least:
        plural = "" if rule.least == 1 else "s"
        raise ValueError(f"{described} needs at least {rule.least} update{plural}, got {len(held)}")
    return held


def deltas(updates: Sequence[Update]) -> list[Vector]:
    """The rows of the cohort's matrix."""
    return [update.delta for update in updates]
