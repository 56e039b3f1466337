"""MLflow runs of trainings that did not come to their end."""

from __future__ import annotations

from configs.plan import Plan
from tasks.tracking import FLOW_RUN, connect, storing


def unfinished(plan: Plan) -> dict[str, str]:
    """The MLflow runs of trainings of a plan that are RUNNING, and the Prefect flow run of each.

    Raises:
        TrackingError: MLflow cannot be read.
    """
    client = connect()
    with storing(f"runs of {plan.name}", verb="list"):
        experiment = client.get_experiment_by_name(plan.name)
        if experiment is None:
            return {}
        found = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
    return {run.info.run_id: run.data.tags[FLOW_RUN] for run in found if FLOW_RUN in run.data.tags}


def end_killed(run_id: str) -> None:
    """Ends the run of a training whose process is no more.

    Raises:
        TrackingError: MLflow refused.
    """
    with storing("the end of a run"):
        connect().set_terminated(run_id, "KILLED")
