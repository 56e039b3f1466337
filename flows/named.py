"""What a flow run is called in the UI."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from prefect import runtime


def run_name() -> str:
    """The flow and the plan, or the model, that it is given."""
    return f"{runtime.flow_run.flow_name} {plan_name()}"


def plan_name() -> str:
    """The plan, or the model, that the flow run is given; of a path the file's name."""
    given: dict[str, Any] = runtime.flow_run.parameters
    about = given.get("plan", given.get("name", ""))
    if not isinstance(about, str):
        return str(about.name)
    return PurePath(about).stem if about.endswith((".yaml", ".yml")) else about
