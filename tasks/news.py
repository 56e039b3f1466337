"""Whether clients have rows that the champion's training has not seen."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.plan import Plan
from tasks.history import history
from tasks.identity import rows_of
from tasks.promoting import raw_federation
from tasks.signing import signer, trusted_keys
from tasks.stored import Library
from tasks.versions import CHAMPION, ROUND


@task(task_run_name="find_new_data {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def find_new_data(plan: Plan) -> list[str] | None:
    """The clients whose rows have changed since the champion was trained; None where there is no champion.

    Rows that carry no client's name are all one client's, called "all rows".

    Raises:
        InputError: the data cannot be loaded.
        ForgedError: the champion's record was changed.
        TrackingError: MLflow cannot be read.
    """
    library = Library()
    version = library.alias(plan.name, CHAMPION)
    if version is None:
        return None
    with library.open(f"{plan.name}/{version}", files=ROUND) as stored:
        records = history(library, stored, trusted_keys())
    trained_on = next(record["identity"] for record in records if "identity" in record)["rows"]
    now = rows_of(raw_federation(plan), signer())
    names = sorted(now.keys() | trained_on.keys())
    return [name or "all rows" for name in names if now.get(name) != trained_on.get(name)]
