"""Removes the weights of versions that the plan's policy does not keep."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.plan import Plan
from configs.retention import Kept
from tasks.promoting import PROMOTED_AT
from tasks.stored import Library
from tasks.tracking import storing
from tasks.verifying import REMOVED, WEIGHTS


@task(task_run_name="remove_weights {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def remove_weights(plan: Plan) -> list[str]:
    """Removes them; gives the versions. A version is marked before its weights go, so that none is half there.

    Raises:
        TrackingError: MLflow or the artifact store refused.
    """
    library = Library()
    found = list(library.versions(plan.name))
    untouchable = library.aliased(plan.name) | _last_of_each_run(found)
    untouchable |= {version.version for version, tags in found if PROMOTED_AT in tags}
    kept = untouchable | plan.retention.keeps([version for version, _ in found])
    doomed = [version.version for version, tags in found if version.version not in kept and REMOVED not in tags]
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}"
    for number in doomed:
        with storing(f"what is left of {plan.name} version {number}"):
            library.client.set_model_version_tag(plan.name, number, REMOVED, now)
    marked = {version.version for version, tags in found if REMOVED in tags}  # by a run that did not come to its end
    for number in sorted({*doomed, *marked} - untouchable, key=int):
        library.delete_files(plan.name, number, WEIGHTS)
    for number in sorted(marked & untouchable, key=int):  # has been given an alias since
        if library.has_files(plan.name, number, WEIGHTS):
            with storing(f"what is left of {plan.name} version {number}"):
                library.client.delete_model_version_tag(plan.name, number, REMOVED)
    return doomed


def _last_of_each_run(found: list[tuple[Kept, dict[str, str]]]) -> set[str]:
    last: dict[str, Kept] = {}
    for version, _ in found:
        if version.run_id not in last or last[version.run_id].round < version.round:
            last[version.run_id] = version
    return {version.version for version in last.values()}
