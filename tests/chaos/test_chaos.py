"""The short form of ``python -m tests.chaos``: a training that is killed, and judges that see what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.loading import load_plan
from federated.loop import one_round
from federated.rounds import initial_state
from federated.updates import digest
from tests.chaos.attempts import Training
from tests.chaos.audit import audit
from tests.chaos.books import Books, Point, Version
from tests.chaos.points import POINTS
from tests.chaos.versions import unusable

ROUNDS = 3
KILLS = [("half-a-record", 2), ("half-an-upload", 1), ("version-made", 2), ("unclosed", 1)]


def weights_of_the_plain_loop(rounds: int) -> dict[int, str]:
    """The method without Prefect or MLflow: the digest of the weights after every round."""
    from models.keras_engine import KerasEngine

    plan = load_plan("quickstart", [f"rounds={rounds}"])
    federation = plan.federation()
    engine = KerasEngine(plan.model, federation.inputs, federation.classes)
    state, weights = initial_state(plan.algorithm, engine, len(federation.clients)), dict[int, str]()
    for number in range(1, rounds + 1):
        state = one_round(plan.algorithm, engine, state, federation.clients, {}).state
        weights[number] = digest(state.params)
    return weights


@pytest.mark.parametrize("kills", [KILLS[2:3], pytest.param(KILLS, marks=pytest.mark.slow)], ids=["once", "four times"])
def test_a_training_that_is_killed_leaves_everything_once(kills: list[tuple[str, int]], warm_home: Path) -> None:
    training = Training(warm_home, "killed", ROUNDS)
    for point, number in kills:
        attempt = training.attempt(point, number)
        assert attempt.was_killed, f"{POINTS[point].says}: {attempt.printed}"
    training.attempt()
    assert audit(training, weights_of_the_plain_loop(ROUNDS)) == []
    assert [attempt.again for attempt in training.attempts] == [[]] * (len(kills) + 1)
    assert unusable(training) == []


def test_the_judges_see_what_is_there_twice() -> None:
    version = Version(1, "m-1", {"round": "1"})
    point = Point("loss", 1, 0.5)
    once = Books([("run", "FINISHED", True)], {}, [point], [version], [(1, True)])
    assert once.duplicates == []
    twice = Books(*(found * 2 if isinstance(found, list) else found for found in once))
    assert len(twice.duplicates) == 4
