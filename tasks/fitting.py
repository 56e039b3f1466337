"""Whether a training goes on from what rounds of another algorithm have left, where that change is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.plan import Plan
from federated.errors import PlanError
from federated.rounds import ServerState

_PARTS = ("rule", "server", "correction", "transforms")


def require_fitting(before: Mapping[str, Any], now: Plan, fresh: ServerState) -> None:
    """No part of the algorithm that keeps a state from round to round may be of another kind than ``before``.

    ``fresh`` is the state before round 1: a part that begins without one goes on from any.

    Raises:
        PlanError: one is.
    """
    after = now.model_dump(mode="json")
    for part in _PARTS:
        old, new = (_kinds(plan["algorithm"].get(part, [])) for plan in (before, after))
        states = fresh.transforms if part == "transforms" else (getattr(fresh, part),)
        other = [len(old) != len(new) or old[place] != new[place] for place in range(len(new))]
        if any(is_other and state is not None for is_other, state in zip(other, states, strict=True)):
            raise PlanError(
                f"algorithm.{part}: was {_named(old)} and is {_named(new)} now, which cannot go on from what the "
                "rounds so far have left; keep that, or begin another training"
            )


def taken_over(found: ServerState, fresh: ServerState) -> ServerState:
    """What rounds have left, for an algorithm that begins with ``fresh``: other transforms begin anew."""
    if len(found.transforms) == len(fresh.transforms):
        return found
    return found._replace(transforms=fresh.transforms)


def _kinds(part: Any) -> list[str]:
    """What each member of a part is: its kind, and its target, where it is somebody's own."""
    return [" ".join([one["kind"], *([one["target"]] if "target" in one else [])]) for one in _members(part)]


def _members(part: Any) -> list[Any]:
    return part if isinstance(part, list) else [part]


def _named(kinds: list[str]) -> str:
    return ", ".join(kinds) or "none"
