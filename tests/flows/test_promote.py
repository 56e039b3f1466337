"""Promotion and rollback, on a real Prefect API and a real MLflow, of models whose mistakes are known to the row."""

from __future__ import annotations

import contextlib
import contextvars
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from prefect.states import Scheduled

from configs.plan import Plan
from federated.component import Step, Vector
from federated.data import Dataset, Split
from federated.errors import InputError, PlanError, TrackingError, TrainingError
from federated.rules import Rule
from federated.updates import Update
from flows.promote import promote, rollback
from flows.train import train
from tasks.aliases import move_aliases, restore_previous
from tasks.promoting import Promoted, raw_federation
from tasks.stored import Library
from tasks.verifying import REMOVED, WEIGHTS
from tests.roundhouse.commands import wait_until
from tests.tasks.test_stored import at, copied, new_home, stored_file

ROWS = {"a": 400, "b": 400, "c": 60}
"""Client c is small enough to be forgotten."""

NOT_WORSE = {"kind": "not_worse", "metric": "accuracy", "by": 0.0}
WORST_CLIENT = {"kind": "worst_client", "metric": "accuracy", "by": 0.1}


def signs(features: int = 4, classes: int = 2) -> Dataset:
    """Rows of which one feature is about 1 or -1, and the label says which: the client's own, or seldom the fourth.

    No two are equal: equal rows would all be tested on, or none.
    """
    rng = np.random.default_rng(0)
    keys = np.repeat(list(ROWS), list(ROWS.values()))
    own = np.repeat(np.arange(3), list(ROWS.values()))
    sign = rng.choice(np.float32([-1, 1]), len(keys))
    x = np.zeros((len(keys), features), np.float32)
    x[np.arange(len(keys)), np.where(rng.random(len(keys)) < 0.05, 3, own)] = sign * rng.uniform(1, 1.01, len(keys))
    labels = tuple(f"class-{number}" for number in range(classes))
    return Dataset(Split(x, (sign > 0).astype(np.int32)), labels, "signs", keys)


def dense(inputs: tuple[int, ...], classes: int) -> Any:
    """One layer that starts from zeros."""
    import keras

    units = 1 if classes == 2 else classes
    return keras.Sequential([keras.Input(inputs), keras.layers.Dense(units, kernel_initializer="zeros")])


class Given(Rule):
    """Whatever the clients send, the model becomes this; the last weights are its biases."""

    weights: tuple[float, ...]

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        return Step(state, np.float32(self.weights), {})


def plan(*gates: dict[str, Any], weights: tuple[float, ...] = (), approval: bool = False, **options: int) -> Plan:
    """A positive weight of a feature is right for every row that has it; a negative one is wrong."""
    own = {"target": f"{__name__}:Given", "options": {"weights": [*weights, 0.0]}}
    return Plan.model_validate(
        {
            "name": "signs",
            "data": {"kind": "custom", "target": f"{__name__}:signs", "options": options},
            "model": {"kind": "custom", "target": f"{__name__}:dense"},
            "rounds": 1,
            "algorithm": {
                "select": {"kind": "all"},
                "rule": {"kind": "custom", **own} if weights else {"kind": "mean"},
            },
            "promotion": {"gates": gates, "approval": approval},
        }
    )


class Versions(NamedTuple):
    """One registered version for every way to be right or wrong."""

    best: str
    same: str
    slightly_worse: str
    wrong_for_c: str
    wider: str
    three_classes: str


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Versions]:
    home = new_home(tmp_path_factory.mktemp("promoted"), empty_mlflow)
    plans = (
        plan(weights=(4, 4, 4, 4)),
        plan(weights=(4, 4, 4, 4)),
        plan(weights=(4, 4, 4, -4)),
        plan(weights=(4, 4, -4, 4)),
        plan(weights=(4, 4, 4, 4, 4), features=5),
        plan(weights=(0,) * 14, classes=3),
    )
    with at(home):
        return home, Versions(*(train(one).model_version for one in plans))


@pytest.fixture
def home(trained: tuple[Path, Versions], tmp_path: Path) -> Iterator[Path]:
    """A copy, in which nothing has been promoted."""
    copy = copied(trained[0], tmp_path)
    with at(copy):
        client().delete_registered_model_alias("signs", "candidate")
        yield copy


@pytest.fixture
def known(trained: tuple[Path, Versions], home: Path) -> Versions:
    return trained[1]


def client() -> Any:
    """MLflow as the flow left it."""
    return Library().client


def set_alias(alias: str, version: str) -> None:
    client().set_registered_model_alias("signs", alias, version)


def aliases() -> dict[str, str]:
    """Which version each alias stands for."""
    return {alias: str(version) for alias, version in client().get_registered_model("signs").aliases.items()}


def promoted(asked: Plan, version: str, **given: Any) -> Promoted:
    """How a promotion ended."""
    outcome: Promoted = promote(asked, version=version, **given, return_state=True).result()
    return outcome


# The decision


def test_the_first_version_becomes_the_champion_and_is_no_longer_the_candidate(known: Versions) -> None:
    set_alias("candidate", known.best)
    state = promote(plan(NOT_WORSE, WORST_CLIENT, {"kind": "schema"}), return_state=True)
    outcome = state.result()
    assert state.is_completed()
    assert (outcome.promoted, outcome.champion, outcome.previous) == (True, known.best, None)
    assert aliases() == {"champion": known.best}


def test_a_better_candidate_becomes_the_champion_and_the_champion_the_previous_one(known: Versions) -> None:
    set_alias("champion", known.slightly_worse)
    set_alias("candidate", known.best)
    outcome = promoted(plan(NOT_WORSE, WORST_CLIENT), "")
    assert (outcome.promoted, outcome.version, outcome.reasons) == (True, known.best, [])
    assert (outcome.champion, outcome.previous) == (known.best, known.slightly_worse)
    assert aliases() == {"champion": known.best, "previous": known.slightly_worse}


def test_an_equal_candidate_is_promoted_with_nothing_allowed(known: Versions) -> None:
    set_alias("champion", known.best)
    assert promoted(plan(NOT_WORSE, WORST_CLIENT, {"kind": "schema"}), known.same).promoted
    assert aliases() == {"champion": known.same, "previous": known.best}


@pytest.mark.parametrize(("allowed", "passes"), [(0.01, False), (0.2, True)])
def test_a_slightly_worse_candidate_is_promoted_only_where_that_much_is_allowed(
    known: Versions, allowed: float, passes: bool
) -> None:
    set_alias("champion", known.best)
    outcome = promoted(plan(NOT_WORSE | {"by": allowed}), known.slightly_worse)
    assert outcome.promoted == passes
    assert outcome.reasons == ([] if passes else ["not_worse accuracy: accuracy is worse than allowed"])
    assert aliases()["champion"] == (known.slightly_worse if passes else known.best)


def test_a_candidate_that_fails_one_small_client_is_refused_by_its_name(known: Versions) -> None:
    set_alias("champion", known.best)
    outcome = promoted(plan(NOT_WORSE | {"by": 0.2}, WORST_CLIENT), known.wrong_for_c)
    assert [verdict["passed"] for verdict in outcome.verdicts] == [True, False]
    assert outcome.reasons == ["worst_client accuracy: accuracy of c is worse than allowed"]
    assert outcome.verdicts[1]["measured"].startswith("c: ")
    assert aliases() == {"champion": known.best}


def test_a_candidate_that_takes_other_rows_is_refused_and_the_change_named(known: Versions) -> None:
    set_alias("champion", known.best)
    outcome = promoted(plan({"kind": "schema"}), known.wider)
    assert outcome.reasons == ["schema: callers would meet other inputs"]
    assert aliases() == {"champion": known.best}


def test_a_candidate_that_gives_other_predictions_is_refused_and_the_change_named(known: Versions) -> None:
    set_alias("champion", known.best)
    assert promoted(plan({"kind": "schema"}), known.three_classes).reasons == [
        "schema: callers would meet other outputs"
    ]


@pytest.mark.parametrize("which", ["wider", "three_classes"])
def test_a_candidate_that_cannot_be_scored_on_the_plans_rows_passes_no_gate_that_measures(
    known: Versions, which: str
) -> None:
    gates = (
        {"kind": "at_least", "metric": "accuracy", "value": 0},
        {"kind": "at_most", "metric": "loss", "value": 1e9},
        NOT_WORSE | {"by": 1},
        WORST_CLIENT | {"by": 1},
    )
    outcome = promoted(plan(*gates), getattr(known, which))
    assert [verdict["passed"] for verdict in outcome.verdicts] == [False] * 4
    assert all("NaN or infinite" in reason for reason in outcome.reasons)
    assert aliases() == {}


def test_every_limit_is_measured_on_the_registered_model(known: Versions) -> None:
    gates = (
        {"kind": "at_least", "metric": "accuracy", "value": 0.99},
        {"kind": "at_most", "metric": "loss", "value": 0.02},
        {"kind": "epsilon", "at_most": 8, "unit": "client", "delta": 1e-5},
        {"kind": "latency", "milliseconds": 1e-6},
        {"kind": "size", "megabytes": 1e-6},
    )
    outcome = promoted(plan(*gates), known.best)
    found = {verdict["gate"]: verdict["measured"] for verdict in outcome.verdicts}
    assert found["at_least accuracy"] == "1"
    signals = np.abs(raw_federation(plan()).test.x.sum(axis=1))
    assert float(found["at_most loss"]) == pytest.approx(np.log1p(np.exp(-4 * signals)).mean(), rel=1e-5)
    size = stored_file(known.best, "data/model.keras", "signs").stat().st_size
    assert found["size"] == f"{size / 1e6:.6g} MB"
    assert outcome.reasons == [
        "epsilon: the candidate has no privacy guarantee",
        "latency: latency is above the limit",
        "size: size is above the limit",
    ]


def test_any_version_can_be_promoted_also_the_champion_itself(known: Versions) -> None:
    for alias, version in (("champion", known.best), ("previous", known.same), ("candidate", known.slightly_worse)):
        set_alias(alias, version)
    assert promoted(plan(NOT_WORSE), known.best).promoted
    assert aliases() == {"champion": known.best, "previous": known.same, "candidate": known.slightly_worse}
    assert promoted(plan(), known.same).promoted
    assert aliases() == {"champion": known.same, "previous": known.best, "candidate": known.slightly_worse}


# A refusal


def test_a_refusal_moves_nothing_and_its_reasons_are_in_prefect_and_on_the_version(known: Versions) -> None:
    for alias, version in (("champion", known.best), ("previous", known.same), ("candidate", known.slightly_worse)):
        set_alias(alias, version)
    client().update_model_version("signs", known.slightly_worse, description="A card.")
    before = aliases()
    for _ in range(2):
        state = promote(plan(NOT_WORSE, {"kind": "size", "megabytes": 1e-6}), return_state=True)
        outcome = state.result()
        assert aliases() == before
    said = ["not_worse accuracy: accuracy is worse than allowed", "size: size is above the limit"]
    assert (outcome.promoted, outcome.reasons) == (False, said)
    assert outcome.champion == known.best
    _prefect_says(state.state_details.flow_run_id, said)
    _the_version_says(known.slightly_worse, said)


def _prefect_says(flow_run_id: UUID, said: list[str]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    with get_client(sync_client=True) as api:
        ended = api.read_flow_run(flow_run_id).state
        (artifact,) = api.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    assert (ended.type, ended.name, ended.message) == ("COMPLETED", "Refused", "; ".join(said))
    assert artifact.key == "signs-promotion"
    assert "| not_worse accuracy | refused |" in artifact.data
    assert all(line.partition(": ")[2] in artifact.data for line in said)
    assert artifact.description.endswith("refused")


def _the_version_says(version: str, said: list[str]) -> None:
    found = client().get_model_version("signs", version)
    assert (found.tags["gates"], found.tags["gates_reasons"]) == ("refused", "; ".join(said))
    assert found.tags["gates_at"].endswith("Z")
    assert found.description.startswith("A card.\n\n## Promotion\n\n| gate |")
    assert found.description.count("## Promotion") == 1
    assert all(line.partition(": ")[2] in found.description for line in said)


def test_a_refusal_says_which_versions_serve_and_which_one_to_go_back_to(known: Versions) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.wrong_for_c)
    outcome = promoted(plan(NOT_WORSE), known.slightly_worse)
    assert (outcome.champion, outcome.previous) == (known.best, known.wrong_for_c)


def test_a_promotion_is_said_on_the_version_too(known: Versions) -> None:
    promoted(plan({"kind": "schema"}), known.best)
    found = client().get_model_version("signs", known.best)
    assert (found.tags["gates"], found.tags.get("gates_reasons", "")) == ("passed", "")
    assert "| schema | passed |" in found.description


def test_a_promotion_that_no_gate_has_judged_says_so(known: Versions) -> None:
    state = promote(plan(), version=known.best, return_state=True)
    assert (state.name, state.message) == (
        "Promoted",
        f"version {known.best} is the champion; the plan has no gates: nothing was compared",
    )
    state = promote(plan(NOT_WORSE), version=known.same, return_state=True)
    assert (state.name, state.message) == ("Promoted", f"version {known.same} is the champion")


# What is no promotion


@pytest.mark.parametrize("wrong", ["a'b", "a b", "../a", "x" * 81])
def test_what_is_no_run_key_is_said_of_the_run_key(known: Versions, wrong: str) -> None:
    with pytest.raises(InputError, match=rf"^--run-key {re.escape(repr(wrong))}: expected up to 80 letters"):
        promote(plan(), run_key=wrong)


def test_without_a_candidate_or_with_a_version_that_is_not_there_it_is_one_line(known: Versions) -> None:
    for version, named in (("", "signs@candidate"), ("99", "signs/99"), ("x", "signs/x")):
        with pytest.raises(InputError, match=f"{named}.*: "):
            promoted(plan(), version)
    assert aliases() == {}


def test_what_was_trained_under_attack_is_never_promoted_nor_started_from(home: Path) -> None:
    attacks = [{"kind": "sign_flip", "clients": ["a"]}]
    attacked = plan(weights=(4, 4, 4, 4)).model_dump() | {"simulation": True, "attacks": attacks}
    version = train(Plan.model_validate(attacked)).model_version
    state = promote(plan(), version=version, return_state=True)
    assert state.name == "Refused"
    assert state.message == "no_attacks: it was trained under attack, in a simulation"
    assert aliases() == {"candidate": version}
    start = {"start": {"kind": "version", "version": version}}
    with pytest.raises(PlanError, match=f"start: signs/{version} was trained under attack"):
        train(Plan.model_validate(plan().model_dump() | start))
    assert train(Plan.model_validate(attacked | start)).model_version != version


def test_a_gate_on_what_is_not_measured_is_one_line(known: Versions) -> None:
    with pytest.raises(InputError, match=r"^promotion\.gates\.0\.metric: classification has no mae$"):
        promoted(plan({"kind": "at_most", "metric": "mae", "value": 1}), known.best)
    assert aliases() == {}


def test_a_version_that_is_not_what_was_registered_is_not_loaded(known: Versions) -> None:
    set_alias("champion", known.same)
    stored_file(known.best, "data/model.keras", "signs").write_bytes(b"other code")
    with pytest.raises(TrainingError, match=rf"signs/{known.best} .*model\.keras: changed.*roundhouse verify"):
        promoted(plan(), known.best)
    assert aliases() == {"champion": known.same}


def test_a_version_can_be_promoted_after_mlflow_has_served_it(known: Versions) -> None:
    import mlflow

    mlflow.pyfunc.load_model(f"models:/signs/{known.best}")
    assert promoted(plan(), known.best).promoted


# The way back


def test_a_rollback_makes_the_previous_champion_serve_and_another_undoes_it(known: Versions) -> None:
    set_alias("champion", known.slightly_worse)
    promoted(plan(), known.best)
    outcome = rollback("signs", return_state=True).result()
    assert (outcome.promoted, outcome.champion, outcome.previous) == (True, known.slightly_worse, known.best)
    assert aliases() == {"champion": known.slightly_worse, "previous": known.best}
    rollback("signs")
    assert aliases() == {"champion": known.best, "previous": known.slightly_worse}


@pytest.mark.parametrize("before", [{}, {"champion": "best"}, {"champion": "best", "previous": "best"}])
def test_a_rollback_with_nothing_to_go_back_to_is_one_line_and_moves_nothing(
    known: Versions, before: dict[str, str]
) -> None:
    for alias, which in before.items():
        set_alias(alias, getattr(known, which))
    unmoved = aliases()
    with pytest.raises(InputError, match=r"^signs: there is no previous champion to go back to$"):
        rollback("signs")
    assert aliases() == unmoved


def test_a_rollback_to_a_version_that_was_changed_is_refused_unless_it_is_forced(known: Versions) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.same)
    stored_file(known.same, "data/model.keras", "signs").write_bytes(b"other code")
    with pytest.raises(TrainingError, match=rf"^signs/{known.same} .*: changed; .*; --force rolls back all the same$"):
        rollback("signs")
    assert aliases() == {"champion": known.best, "previous": known.same}
    assert rollback("signs", force=True).champion == known.same
    assert aliases() == {"champion": known.same, "previous": known.best}


def test_a_rollback_to_a_version_without_weights_is_refused(known: Versions) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.same)
    remove_weights(known.same)
    with pytest.raises(InputError, match=rf"has removed the weights of signs/{known.same}; .*--force"):
        rollback("signs")
    assert aliases() == {"champion": known.best, "previous": known.same}


def remove_weights(version: str) -> None:
    """As retention does."""
    for path in WEIGHTS:
        stored_file(version, path, "signs").unlink()
    client().set_model_version_tag("signs", version, REMOVED, "2026-01-01")


# A champion at every instant


def test_there_is_a_champion_at_every_instant_of_twenty_promotions(home: Path, known: Versions) -> None:
    set_alias("champion", known.best)
    with _polled(home) as seen:
        for turn in range(10):
            move_aliases.fn("signs", known.same if turn % 2 else known.slightly_worse)
            restore_previous.fn("signs")
    assert len(seen) > 100
    assert set(seen) == {(known.best,), (known.same,), (known.slightly_worse,)}


@contextlib.contextmanager
def _polled(home: Path) -> Iterator[list[tuple[str, ...]]]:
    """What the champion was whenever another process might have asked."""
    seen, over = list[tuple[str, ...]](), threading.Event()

    def poll() -> None:
        with contextlib.closing(sqlite3.connect(home / "mlflow.db", timeout=30)) as connection:
            while not over.is_set():
                found = connection.execute("SELECT version FROM registered_model_aliases WHERE alias = 'champion'")
                seen.append(tuple(str(version) for (version,) in found))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def _dying(call: int, done: bool, error: BaseException) -> Iterator[None]:
    """Ends with ``error`` at the n-th change of an alias: before it, or when MLflow has made it."""
    from mlflow import MlflowClient

    calls = iter(range(1, 100))

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def change(*given: Any) -> None:
            last = next(calls) == call
            if done or not last:
                real(*given)
            if last:
                raise error

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in ("set_registered_model_alias", "delete_registered_model_alias"):
            patch.setattr(MlflowClient, name, dying(getattr(MlflowClient, name)))
        yield


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_a_promotion_that_dies_between_two_aliases_leaves_a_champion_and_can_be_done_again(
    known: Versions, call: int, done: bool
) -> None:
    for alias, version in (("champion", known.best), ("previous", known.wrong_for_c), ("candidate", known.same)):
        set_alias(alias, version)
    with _dying(call, done, Killed()), pytest.raises(Killed):
        move_aliases.fn("signs", known.same)
    assert aliases()["champion"] in (known.best, known.same)
    move_aliases.fn("signs", known.same)
    assert aliases() == {"champion": known.same, "previous": known.best}


def _rollbacks() -> list[Any]:
    return [
        pytest.param(call, done, id=f"{'after' if done else 'before'} {call}") for call in (1, 2) for done in (0, 1)
    ]


@pytest.mark.parametrize(("call", "done"), _rollbacks())
def test_a_rollback_that_dies_between_two_aliases_leaves_the_one_or_the_other(
    known: Versions, call: int, done: int
) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.same)
    with _dying(call, bool(done), Killed()), pytest.raises(Killed):
        restore_previous.fn("signs")
    assert aliases()["champion"] == (known.best if (call, done) == (1, 0) else known.same)


def test_an_alias_that_mlflow_refuses_fails_the_promotion_with_one_line(
    known: Versions,
) -> None:
    set_alias("champion", known.best)
    with (
        _dying(2, False, ConnectionError("no")),
        pytest.raises(TrackingError, match="MLflow could not store the aliases: no"),
    ):
        promoted(plan(), known.same)
    assert aliases() == {"champion": known.best, "previous": known.best}
    assert promoted(plan(), known.same).promoted
    assert aliases() == {"champion": known.same, "previous": known.best}


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_answer_that_was_lost_is_no_failure_of_a_promotion(known: Versions, lost: int) -> None:
    for alias, version in (("champion", known.best), ("previous", known.wrong_for_c), ("candidate", known.same)):
        set_alias(alias, version)
    with _dying(lost, True, ConnectionError("reset by peer")):
        moved = move_aliases.fn("signs", known.same)
    assert (moved.champion, moved.previous) == (known.same, known.best)
    assert aliases() == {"champion": known.same, "previous": known.best}


@pytest.mark.parametrize("call", [1, 2])
def test_an_answer_that_was_lost_is_no_failure_of_a_rollback(known: Versions, call: int) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.same)
    with _dying(call, True, ConnectionError("reset by peer")):
        moved = restore_previous.fn("signs")
    assert (moved.champion, moved.previous) == (known.same, known.best)
    assert aliases() == {"champion": known.same, "previous": known.best}


def test_a_rollback_that_mlflow_refuses_is_one_line_and_moves_nothing(known: Versions) -> None:
    set_alias("champion", known.best)
    set_alias("previous", known.same)
    with (
        _dying(1, False, ConnectionError("no")),
        pytest.raises(TrackingError, match="MLflow could not store the aliases: no"),
    ):
        restore_previous.fn("signs")
    assert aliases() == {"champion": known.best, "previous": known.same}


# Approval


def test_a_candidate_that_nobody_approved_is_refused_where_a_person_is_asked(known: Versions) -> None:
    outcome = promoted(plan(approval=True), known.best)
    assert (outcome.promoted, outcome.reasons) == (
        False,
        ["approval: a person must approve; --approve says that one has"],
    )
    assert aliases() == {}
    assert approval(known.best) == ("passed", "not answered", "a person must approve; --approve says that one has")
    assert promoted(plan(approval=True), known.best, approved=True).promoted
    assert aliases() == {"champion": known.best}
    assert approval(known.best) == ("passed", "approved", "by --approve")


def approval(version: str) -> tuple[str, ...]:
    """What the version says of the gates, of the person who was asked, and of that one's comment."""
    tags = client().get_model_version("signs", version).tags
    return tuple(tags.get(name, "") for name in ("gates", "approval", "approval_comment"))


def test_what_a_person_once_said_is_not_left_on_a_version_that_is_judged_without_one(known: Versions) -> None:
    promoted(plan(approval=True), known.best)
    promoted(plan(), known.best)
    assert approval(known.best) == ("passed", "not asked", "")


def test_approval_does_not_overrule_a_gate(known: Versions) -> None:
    set_alias("champion", known.best)
    assert not promoted(plan(NOT_WORSE, approval=True), known.slightly_worse, approved=True).promoted
    assert aliases() == {"champion": known.best}


class Deployed:
    """A run of the deployment of ``promote``, as a worker's process runs it: it waits for a person."""

    def __init__(self, api: Any, asked: Plan, version: str) -> None:
        deployment = api.create_deployment(api.create_flow(promote), "on-demand", enforce_parameter_schema=False)
        self._api = api
        given = {"plan": asked.model_dump(mode="json"), "version": version}
        self._run = api.create_flow_run_from_deployment(deployment, parameters=given)
        self._start()
        wait_until(lambda: self.state.is_paused() or not self._thread.is_alive(), 30)

    def _start(self) -> None:
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._work,))
        self._thread.start()

    def _work(self) -> None:
        from prefect.flow_engine import run_flow

        run_flow(promote, flow_run=self._run, return_type="state")

    def wait(self) -> None:
        """Until the run has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive()

    def retry(self) -> None:
        """As the button of the UI does it; until the run has ended again."""
        self._api.set_flow_run_state(self._run.id, Scheduled(name="AwaitingRetry"), force=True)
        self._run = self._api.read_flow_run(self._run.id)
        self._start()
        self.wait()

    @property
    def state(self) -> Any:
        """As the API has it."""
        return self._api.read_flow_run(self._run.id).state

    def answer(self, **said: Any) -> Any:
        """What a person says in the UI; gives the state in which the run ends."""
        self._api.resume_flow_run(self._run.id, run_input=said)
        wait_until(lambda: self.state.is_paused() or not self._thread.is_alive(), 30)
        self._thread.join(1)
        assert not self._thread.is_alive()
        return self.state


@pytest.fixture
def api(known: Versions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Prefect's; a run that is paused looks for an answer more often than every ten seconds."""
    from prefect.client.orchestration import get_client
    from prefect.flow_runs import pause_flow_run

    monkeypatch.setattr("flows.promote.pause_flow_run", partial(pause_flow_run, poll_interval=1))
    with get_client(sync_client=True) as found:
        yield found


@pytest.mark.parametrize(
    ("said", "name", "message"),
    [
        ({"approve": True}, "Promoted", "version 2 is the champion"),
        ({"approve": False, "comment": "not on a Friday"}, "Refused", "approval: refused by a person: not on a Friday"),
        ({"approve": False}, "Refused", "approval: refused by a person: no comment"),
    ],
)
def test_a_deployment_waits_for_a_person_and_does_what_that_one_says(
    api: Any, known: Versions, said: dict[str, Any], name: str, message: str
) -> None:
    set_alias("champion", known.best)
    run = Deployed(api, plan(NOT_WORSE, approval=True), known.same)
    assert run.state.is_paused()
    assert aliases() == {"champion": known.best}
    ended = run.answer(**said)
    assert (ended.type, ended.name, ended.message) == ("COMPLETED", name, message)
    after = {"champion": known.same, "previous": known.best} if said["approve"] else {"champion": known.best}
    assert aliases() == after
    decision = "approved" if said["approve"] else "refused"
    assert approval(known.same) == ("passed", decision, said.get("comment", "no comment"))


def test_where_nobody_answers_in_time_the_promotion_is_refused_and_a_retry_too(
    api: Any, known: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.promote._DAY", 2)
    run = Deployed(api, plan(approval=True), known.best)
    run.wait()
    said = "approval: nobody answered; promote the version again"
    assert (run.state.type, run.state.name, run.state.message) == ("COMPLETED", "Refused", said)
    assert approval(known.best)[:2] == ("passed", "not answered")
    run.retry()
    assert (run.state.type, run.state.name, run.state.message) == ("COMPLETED", "Refused", said)
    assert aliases() == {}


def test_a_retry_remembers_what_a_person_said(api: Any, known: Versions) -> None:
    run = Deployed(api, plan(approval=True), known.best)
    with _dying(1, False, ConnectionError("no")):
        assert run.answer(approve=True, comment="go").is_failed()
    run.retry()
    assert (run.state.name, aliases()) == ("Promoted", {"champion": known.best})
    assert approval(known.best) == ("passed", "approved", "go")


def test_a_pause_that_gives_no_answer_is_a_refusal(api: Any, known: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.promote.pause_flow_run", lambda **given: None)
    assert Deployed(api, plan(approval=True), known.best).state.name == "Refused"


def test_a_candidate_that_lost_its_weights_while_a_person_thought_is_not_promoted(api: Any, known: Versions) -> None:
    set_alias("champion", known.best)
    run = Deployed(api, plan(approval=True), known.same)
    remove_weights(known.same)
    ended = run.answer(approve=True)
    assert ended.is_failed()
    assert f"retention has removed the weights of signs/{known.same}" in ended.message
    assert aliases() == {"champion": known.best}


def test_a_candidate_that_was_changed_while_a_person_thought_is_not_promoted(api: Any, known: Versions) -> None:
    set_alias("champion", known.best)
    run = Deployed(api, plan(approval=True), known.same)
    stored_file(known.same, "data/model.keras", "signs").write_bytes(b"other code")
    assert "model.keras: changed" in run.answer(approve=True).message
    assert aliases() == {"champion": known.best}


def test_a_deployment_asks_nobody_about_a_candidate_that_a_gate_refuses(api: Any, known: Versions) -> None:
    set_alias("champion", known.best)
    assert Deployed(api, plan(NOT_WORSE, approval=True), known.slightly_worse).state.name == "Refused"


def test_a_promotion_that_waits_for_a_person_does_not_hold_up_a_rollback(api: Any, known: Versions) -> None:
    set_alias("champion", known.slightly_worse)
    set_alias("previous", known.best)
    run = Deployed(api, plan(approval=True), known.same)
    back = threading.Thread(target=contextvars.copy_context().run, args=(lambda: rollback("signs"),))
    back.start()
    back.join(5)
    waited = back.is_alive()
    run.answer(approve=False)
    back.join(30)
    assert not waited


def test_a_champion_that_came_meanwhile_is_the_one_to_beat(api: Any, known: Versions) -> None:
    run = Deployed(api, plan(NOT_WORSE, approval=True), known.slightly_worse)
    assert run.state.is_paused()
    set_alias("champion", known.best)
    ended = run.answer(approve=True)
    assert (ended.name, ended.message) == ("Refused", "not_worse accuracy: accuracy is worse than allowed")
    assert aliases() == {"champion": known.best}


def test_what_was_approved_is_the_version_that_was_shown_and_no_later_one(api: Any, known: Versions) -> None:
    set_alias("champion", known.best)
    set_alias("candidate", known.same)
    run = Deployed(api, plan(approval=True), "")
    assert run.state.is_paused()
    set_alias("champion", known.wrong_for_c)
    set_alias("candidate", known.slightly_worse)
    run.answer(approve=True)
    assert aliases()["champion"] == known.same
