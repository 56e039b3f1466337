"""Recurring training, on a table of three sites whose rows change."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

from configs.loading import load_plan, resolve_plan
from configs.plan import Plan
from federated.errors import InputError, PlanError
from flows.promote import promote
from flows.retrain import retrain
from flows.train import train
from tasks.news import find_new_data
from tasks.replaying import replay
from tasks.signing import read_signed, trusted_keys
from tasks.stored import Library
from tasks.tracking import START
from tasks.verifying import verify
from tasks.watching import watched_by
from tests.flows.test_train import Interrupter, versions_of
from tests.tasks.test_stored import at, copied, new_home, run_file

HEADER = "site,height,weight,label"


class Row(NamedTuple):
    """One line of the table."""

    site: str
    height: float
    weight: float
    label: str


def rows_of(site: str, count: int = 40, seed: int = 0) -> list[Row]:
    """What a site measured: height and weight tell who is sick."""
    rng = np.random.default_rng([seed, *site.encode()])
    sick = rng.integers(0, 2, count)
    heights, weights = rng.normal(sick, 0.5), rng.normal(-sick, 0.5)
    labels = np.where(sick, "sick", "well")
    return [Row(site, *measured) for measured in zip(heights, weights, labels, strict=True)]


def write(path: Path, rows: list[Row]) -> None:
    path.write_text("\n".join([HEADER, *(f"{r.site},{r.height:.4f},{r.weight:.4f},{r.label}" for r in rows)]))


ROWS = [row for site in "abc" for row in rows_of(site)]


def sites_plan(table: Path, *overrides: str) -> Plan:
    """Two rounds over the sites of a table; without gates."""
    return load_plan("csv-template", [*settings(table), *overrides])


def settings(table: Path) -> list[str]:
    return ["name=sites", "rounds=2", "baselines=false", "stop=null", "model.hidden=[8]", f"data.path={table}"]


def aliases() -> dict[str, str]:
    """What every alias of the model stands for."""
    return {name: str(version) for name, version in Library().client.get_registered_model("sites").aliases.items()}


def runs() -> int:
    """How many trainings MLflow knows."""
    client = Library().client
    return len(client.search_runs([client.get_experiment_by_name("sites").experiment_id]))


def start_of(version: str) -> dict[str, Any]:
    """The record of what a version's training started from."""
    return read_signed(run_file(version, START, "sites").read_bytes(), "record", trusted_keys())


class First(NamedTuple):
    """A home after the first night, its table, and how that night ended."""

    home: Path
    table: Path
    state: Any


@pytest.fixture(scope="module")
def first(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> First:
    """Versions 1 and 2 of ``sites``; 2 is the champion."""
    folder = tmp_path_factory.mktemp("sites")
    home, table = new_home(folder, empty_mlflow), folder / "table.csv"
    write(table, ROWS)
    with at(home):
        return First(home, table, retrain(sites_plan(table), return_state=True))


@pytest.fixture
def table(first: First, tmp_path: Path) -> Iterator[Path]:
    """The table, in a home that is a copy of the first night's; as it was again afterwards."""
    with at(copied(first.home, tmp_path)):
        yield first.table
    write(first.table, ROWS)


def test_without_a_champion_it_trains_and_promotes(first: First) -> None:
    with at(first.home):
        assert (first.state.type.value, first.state.name) == ("COMPLETED", "Promoted")
        assert [found.tags["round"] for found in versions_of("sites")] == ["1", "2"]
        assert aliases() == {"champion": "2"}
        assert "parent_version" not in versions_of("sites")[0].tags
        assert start_of("1")["start"] is None


def test_without_new_data_it_is_skipped_and_says_why(table: Path) -> None:
    state = retrain(sites_plan(table), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message == "no client has new data since the champion was trained"
    assert (len(versions_of("sites")), runs(), aliases()) == (2, 1, {"champion": "2"})


def test_new_rows_train_on_from_the_champion_and_promote(table: Path) -> None:
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    state = retrain(sites_plan(table), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Promoted")
    assert state.message == "version 4 is the champion; the plan has no gates: nothing was compared"
    assert aliases() == {"champion": "4", "previous": "2"}
    champion, first_of_new = versions_of("sites")[1:3]
    assert first_of_new.tags["parent_version"] == "2"
    assert start_of("3")["start"] == "2"
    assert start_of("3")["weights_sha256"] == champion.tags["weights_sha256"]
    replayed = replay("sites/3", trusted_keys())
    assert (replayed.agrees, replayed.differing) == (True, ())
    assert verify("sites/4", trusted_keys()).faults == []


def test_what_came_out_is_refused_where_a_gate_refuses_it(table: Path) -> None:
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    gate = "promotion.gates=[{kind: at_least, metric: accuracy, value: 2}]"
    state = retrain(sites_plan(table, "rounds=1", gate), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Refused")
    assert state.message == "at_least accuracy: accuracy is too low"
    assert aliases() == {"champion": "2", "candidate": "3"}


@pytest.mark.parametrize("only_new_data", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_what_was_refused_is_not_trained_again_until_something_changes(table: Path, only_new_data: bool) -> None:
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    plan = sites_plan(table, "rounds=1", "promotion.gates=[{kind: at_least, metric: accuracy, value: 2}]")
    assert retrain(plan, return_state=True).name == "Refused"
    state = retrain(plan, only_new_data=only_new_data, return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message == (
        "version 3 comes from this champion, plan and data already; roundhouse promote sites says what keeps it from "
        "being the champion"
    )
    longer = plan.model_copy(update={"rounds": 2})
    assert retrain(longer, only_new_data=only_new_data, return_state=True).name == "Refused"
    write(table, [*ROWS, *rows_of("b", 21, seed=1)])
    assert retrain(longer, only_new_data=only_new_data, return_state=True).name == "Refused"
    assert aliases()["champion"] == "2"


def test_what_was_trained_and_not_judged_is_trained_again(table: Path) -> None:
    """So that a run that died between its training and its promotion promotes when it is retried."""
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    plan = sites_plan(table, "rounds=1", "start={kind: champion}")
    train(plan)
    assert find_new_data.fn(plan) == (["b"], None)
    assert retrain(plan, return_state=True).name == "Promoted"


@pytest.mark.parametrize("deployed", [True, False])
def test_a_promotion_that_a_person_must_approve_is_a_run_of_its_own(table: Path, deployed: bool) -> None:
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    plan = sites_plan(table, "rounds=1", "promotion.approval=true")
    with get_client(sync_client=True) as api:
        if deployed:
            api.create_deployment(api.create_flow(promote), "on-demand", enforce_parameter_schema=False)
        state = retrain(plan, return_state=True)
        assert (state.type.value, state.name) == ("COMPLETED", "Candidate")
        assert aliases() == {"champion": "2", "candidate": "3"}
        if not deployed:
            assert state.message == "version 3 waits for approval: there is no promote/on-demand"
            return
        name = state.message.removeprefix("version 3 waits for approval, in flow run ")
        (asked,) = api.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
        api.delete_deployment(asked.deployment_id)
    assert asked.parameters["version"] == "3"
    assert Plan.model_validate(asked.parameters["plan"]) == resolve_plan(plan, ["start={kind: champion}"])


def test_it_trains_without_new_data_where_it_is_told_to(table: Path) -> None:
    state = retrain(sites_plan(table, "rounds=1"), only_new_data=False, return_state=True)
    assert state.name == "Promoted"
    assert start_of("3")["start"] == "2"
    assert aliases() == {"champion": "3", "previous": "2"}


def test_a_plan_is_given_by_name_with_overrides_as_deployments_do(table: Path) -> None:
    state = retrain("csv-template", settings(table), return_state=True)
    assert state.name == "Skipped"


# What is new


def without(site: str) -> list[Row]:
    return [row for row in ROWS if row.site != site]


@pytest.mark.parametrize(
    ("rows", "changed"),
    [
        (ROWS, []),
        ([*ROWS, *rows_of("b", 1, seed=1)], ["b"]),
        ([row for row in ROWS if row.site != "a"] + rows_of("a", 40, seed=1), ["a"]),
        (ROWS[1:-1], ["a", "c"]),
        ([ROWS[0]._replace(label="sick" if ROWS[0].label == "well" else "well"), *ROWS[1:]], ["a"]),
        ([*ROWS, *rows_of("d")], ["d"]),
        (without("b"), ["b"]),
        ([row for mixed in zip(*(rows_of(site) for site in "cba"), strict=True) for row in mixed], []),
    ],
    ids=[
        "none", "one row more", "other rows", "rows less", "another label", "a new client", "a client gone",
        "the same rows of each, between others'",
    ],
)  # fmt: skip
def test_the_clients_whose_rows_have_changed_are_named(table: Path, rows: list[Row], changed: list[str]) -> None:
    write(table, rows)
    assert find_new_data.fn(sites_plan(table)).changed == changed


@pytest.mark.parametrize("override", ["algorithm.seed=8", "holdout.test=0.3", "scaling={kind: as_is}", "rounds=9"])
def test_another_way_to_train_is_no_new_data(table: Path, override: str) -> None:
    assert find_new_data.fn(sites_plan(table, override)).changed == []


def test_rows_that_a_training_went_on_with_are_not_new(table: Path) -> None:
    plan = sites_plan(table, "name=resumed", "rounds=3")
    with watched_by(Interrupter()):
        train(plan, run_key="resumed", return_state=True)
    write(table, [*ROWS, *rows_of("b", 20, seed=1)])
    train(plan, run_key="resumed", accept_change=True)
    Library().client.set_registered_model_alias("resumed", "champion", "3")
    assert find_new_data.fn(plan).changed == []


def test_rows_that_carry_no_clients_name_are_all_one_clients(table: Path) -> None:
    dealt = ["data.client=null", "data.features=[height, weight]", "partition={kind: iid, clients: 3}"]
    plan = sites_plan(table, "name=dealt", *dealt)
    assert find_new_data.fn(plan).changed is None
    retrain(plan)
    assert find_new_data.fn(plan).changed == []
    write(table, [*ROWS, *rows_of("b", 1, seed=1)])
    assert find_new_data.fn(plan).changed == ["all rows"]


def test_what_is_recorded_of_rows_tells_nobody_which_they_are(table: Path) -> None:
    """Not even a guess at a whole client's rows can be checked without the signing key."""
    plan = sites_plan(table)
    recorded, plain = start_of("1")["identity"]["rows"], plan.federation().digests
    assert recorded.keys() == plain.keys() == {"a", "b", "c"}
    text = table.read_text()
    guesses = [*plain.values(), *(sha256(lines.encode()).hexdigest() for lines in (text, *text.splitlines()))]
    client = Library().client
    everything = json.dumps(
        [start_of("1"), *(dict(found.tags) for found in versions_of("sites"))]
        + [client.get_run(found.run_id).data.to_dictionary() for found in versions_of("sites")]
    )
    assert not [guess for guess in guesses if guess[:16] in everything]
    assert all(re.fullmatch("[0-9a-f]{32,}", digest) for digest in recorded.values())
    assert len(set(recorded.values())) == 3


# What goes wrong


def fails(plan: Plan, error: type[Exception], reason: str) -> None:
    """Nothing is registered, and the champion stays."""
    before = len(versions_of("sites"))
    state = retrain(plan, only_new_data=False, return_state=True)
    assert state.is_failed()
    with pytest.raises(error, match=reason) as failure:
        state.result()
    assert "\n" not in str(failure.value)
    assert (len(versions_of("sites")), aliases()["champion"]) == (before, "2")


def test_a_champion_of_another_architecture_is_one_line(table: Path) -> None:
    reason = r"^start: sites/2 has 33 parameters, the plan's model has 65$"
    fails(sites_plan(table, "model.hidden=[16]"), PlanError, reason)


def test_a_champion_of_another_architecture_of_the_same_size_is_one_line(table: Path) -> None:
    """3·4 + 5·3 + 4·1 = 3·2 + 3·6 + 7·1: the weights would land in places that they were not learnt for."""
    deep = ["name=deep", "rounds=1"]
    assert retrain(sites_plan(table, *deep, "model.hidden=[4, 3]"), return_state=True).name == "Promoted"
    other = sites_plan(table, *deep, "model.hidden=[2, 6]")
    assert retrain(other, only_new_data=False, return_state=True).is_failed()


def test_a_champion_that_was_changed_is_not_trained_on(table: Path) -> None:
    Library().client.set_model_version_tag("sites", "2", "weights_sha256", "0" * 64)
    fails(sites_plan(table), Exception, r"sites/2 is not what its training registered: .*; roundhouse verify sites/2")


def test_a_training_that_fails_leaves_the_champion(table: Path) -> None:
    plan = sites_plan(table, "algorithm.local.optimizer={kind: sgd, learning_rate: 1.0e+30}")
    fails(plan, Exception, r"round 1: 0 usable updates")


def test_a_table_that_is_gone_is_one_line(table: Path) -> None:
    table.unlink()
    fails(sites_plan(table), InputError, r"data\.csv\.path: there is no file")


def test_ctrl_c_ends_it_as_cancelled_and_promotes_nothing(table: Path) -> None:
    with watched_by(Interrupter()):
        state = retrain(sites_plan(table, "rounds=4"), only_new_data=False, return_state=True)
    assert state.is_cancelled()
    assert aliases() == {"champion": "2"}


def test_mlflow_away_is_one_line(first: First, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Exception, match=r"MLflow cannot be reached at http://127.0.0.1:9/health"):
        retrain(sites_plan(first.table))


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("{kind: version, version: 99}", r"^sites/99: there is none; roundhouse models lists what there is$"),
        ("{kind: version, version: 1}", r"^retention has removed the weights of sites/1; choose a version that has"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(table: Path, start: str, reason: str) -> None:
    remove_weights_of("1")
    with pytest.raises(InputError, match=reason):
        train(sites_plan(table, f"start={start}"))
    assert (len(versions_of("sites")), runs()) == (2, 1)


def remove_weights_of(version: str) -> None:
    """As retention does."""
    from tasks.verifying import REMOVED, WEIGHTS

    library = Library()
    library.client.set_model_version_tag("sites", version, REMOVED, "2026-01-01")
    library.delete_files("sites", version, WEIGHTS)
