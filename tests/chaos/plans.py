"""The trials of ``python -m tests.chaos``, each a list of what is done."""

from __future__ import annotations

from tests.chaos import damage, trials
from tests.chaos.trials import Attack, OutageOf, Trial

ROUNDS = 12

_IN_THE_ROUNDS = (
    Attack("attempt-unnoted", 1),
    Attack("half-a-state", 0),
    Attack("half-a-record", 0),
    Attack("training", 1),
    Attack("aggregated", 2),
    Attack("half-a-state", 3),
    Attack("state", 4),
    Attack("half-a-record", 4),
    Attack("half-a-state", 4),
    Attack("recorded", 5),
    Attack("going-on", 1),
    Attack("dead-ended", 2),
    Attack("training", 7),
)
# Each at a round that no attempt before has registered, whichever rounds are trained by then.
_IN_THE_REGISTRATION = (
    Attack("run-made", 1),
    Attack("metrics", 2),
    Attack("model-made", 2),
    Attack("half-an-upload", 2),
    Attack("uploaded", 3),
    Attack("finalized", 4),
    Attack("version-made", 5),
    Attack("half-an-upload", 7),
    Attack("figures", 1),
    Attack("summary", 1),
    Attack("unclosed", 1),
    Attack("closed", 1),
    Attack("half-a-result", ROUNDS),
    Attack("unfinished", 1),
)
_DISKS = (
    Attack("recorded", 2, damage.truncated),
    Attack("recorded", 4, damage.overwritten),
    Attack("aggregated", 6, damage.deleted),
)
_AT_ANY_TIME = (
    Attack("startup", 40),
    Attack("tables", 5),
    Attack("moment", 1),
    Attack("moment", 7),
    Attack("moment", 23),
)
_ON_SERVERS = (
    Attack("attempt-unnoted", 1),
    Attack("run-made", 1),
    Attack("model-made", 2),
    Attack("half-an-upload", 2),
    Attack("version-made", 4),
    Attack("figures", 1),
    Attack("unclosed", 1),
)
_UNANSWERED = (
    Attack("run-unanswered", 1),
    Attack("model-unanswered", 2),
    Attack("metrics-unanswered", 3),
    Attack("version-unanswered", 4),
)
_OUTAGES = (
    OutageOf(lambda both: both.mlflow, "round 4/", 60.0, 2),
    OutageOf(lambda both: both.mlflow, "round 6/", 0.0, 10),
    OutageOf(lambda both: both.prefect, "round 4/", 3.0, 10),
    OutageOf(lambda both: both.prefect, f"round {ROUNDS}/", 3.0, 0),
)

TRIALS: dict[str, Trial] = {
    "rounds": trials.attacked(_IN_THE_ROUNDS),
    "registration": trials.attacked(_IN_THE_REGISTRATION),
    "disks": trials.attacked(_DISKS),
    "any-time": trials.attacked(_AT_ANY_TIME),
    "refused": trials.refused,
    "servers": trials.attacked_on_servers(_ON_SERVERS, _UNANSWERED),
    "outages": trials.outages(_OUTAGES),
    "deployed": trials.deployed,
}
