"""Whether a training would see anything that no training before has seen."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.plan import Plan
from tasks.history import history
from tasks.identity import digest_of_code, identify, rows_of
from tasks.promoting import JUDGED, raw_federation
from tasks.signing import signer, trusted_keys
from tasks.stored import Library
from tasks.versions import CANDIDATE, CHAMPION, ROUND


class News(NamedTuple):
    """``changed`` are the clients whose rows have changed since the champion was trained; None: there is no champion.

    ``trained`` is the candidate, where it comes from the same champion, plan, code and rows and has been judged: a
    training would give it again.
    """

    changed: list[str] | None
    trained: str | None = None


@task(task_run_name="find_new_data {plan.name}", cache_policy=NO_CACHE, persist_result=False)
def find_new_data(plan: Plan) -> News:
    """What is new. Rows that carry no client's name are all one client's, called "all rows".

    Raises:
        InputError: the data cannot be loaded.
        ForgedError: a record was changed.
        TrackingError: MLflow cannot be read.
    """
    library = Library()
    champion, candidate = library.alias(plan.name, CHAMPION), library.alias(plan.name, CANDIDATE)
    if champion is None:
        return News(None)
    now = rows_of(raw_federation(plan), signer())
    with library.open(f"{plan.name}/{champion}", files=ROUND) as stored:
        trained_on = _rows(history(library, stored, trusted_keys()))
    names = sorted(now.keys() | trained_on.keys())
    changed = [name or "all rows" for name in names if now.get(name) != trained_on.get(name)]
    if candidate is None:
        return News(changed)
    with library.open(f"{plan.name}/{candidate}", files=ROUND) as stored:
        judged = JUDGED in stored.tags
        again = judged and _would_repeat(history(library, stored, trusted_keys()), plan, champion, now)
    return News(changed, candidate if again else None)


def _rows(records: list[dict[str, Any]]) -> dict[str, str]:
    rows: dict[str, str] = next(record["identity"] for record in records if "identity" in record)["rows"]
    return rows


def _would_repeat(records: list[dict[str, Any]], plan: Plan, champion: str, now: dict[str, str]) -> bool:
    last, start = records[0], records[-1]
    code = digest_of_code(identify(plan))
    then = (start["start"], last["plan_sha256"], last["code_sha256"], _rows(records))
    return then == (champion, plan.digest(), code, now)
