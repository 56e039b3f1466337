"""What a flow run is called in the UI."""

from __future__ import annotations

from prefect import runtime


def run_name() -> str:
    """The flow and the plan, or the model, that it is given."""
    given = runtime.flow_run.parameters
    about = given.get("plan", given.get("name", ""))
    return f"{runtime.flow_run.flow_name} {about if isinstance(about, str) else about.name}"
