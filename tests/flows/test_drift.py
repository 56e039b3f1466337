"""Whether the clients' rows are still those that the champion was trained on, and who hears of it if not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prefect.artifacts import Artifact
from prefect.settings import PREFECT_API_URL
from safetensors.numpy import load, save

from configs.loading import load_plan
from configs.plan import Plan
from federated.data import Split, concatenate
from federated.drift import Reference, allowance, count, moved, reference
from federated.errors import InputError, TrainingError
from flows.drift import DRIFTED, drift
from flows.retrain import retrain
from flows.train import train
from models.loaded_model import LoadedModel
from tasks.drifting import REFERENCE, Drift, measure_drift, reference_bytes
from tasks.promoting import raw_federation
from tasks.signing import trusted_keys
from tasks.stored import Library
from tasks.watching import watched_by
from tests.federated.test_drift import by_hand, moments
from tests.flows.test_retrain import ROWS, Row, rows_of, settings, sites_plan, write
from tests.flows.test_train import Interrupter
from tests.roundhouse.commands import wait_until
from tests.tasks.test_stored import at, copied, new_home, run_file


@pytest.fixture(scope="module")
def home(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``sites`` with a champion."""
    home = new_home(tmp_path_factory.mktemp("drift"), empty_mlflow)
    write(home.parent / "table.csv", ROWS)
    with at(home):
        retrain(sites_plan(home.parent / "table.csv"))
    return home


@pytest.fixture
def table(home: Path, tmp_path: Path) -> Iterator[Path]:
    """The table, in a home that is a copy; as it was again afterwards."""
    with at(copied(home, tmp_path)):
        yield home.parent / "table.csv"
    write(home.parent / "table.csv", ROWS)


def measured(table: Path, change: Callable[[Row], Row] = lambda row: row, sites: str = "abc") -> Drift:
    """The drift, once some sites' rows have changed."""
    write(table, [change(row) if row.site in sites else row for row in ROWS])
    return drift_of(sites_plan(table))


def drift_of(plan: Plan) -> Drift:
    found = measure_drift.fn(plan)
    assert found is not None
    return found


def heavier(row: Row) -> Row:
    return row._replace(weight=row.weight + 3)


def events(name: str, about: str) -> list[dict[str, Any]]:
    """What Prefect's API has heard."""
    wanted = {"event": {"name": [name]}, "resource": {"id": [about]}, "occurred": {"since": "2020-01-01T00:00:00Z"}}
    found = httpx.post(f"{PREFECT_API_URL.value()}/events/filter", json={"filter": wanted, "limit": 50})
    found.raise_for_status()
    return list(found.json()["events"])


def test_the_rows_that_it_was_trained_on_have_not_drifted(table: Path) -> None:
    found = measured(table)
    assert (found.drifted, found.reasons) == (False, [])
    assert (found.model_name, found.version, found.metric) == ("sites", "2", "accuracy")
    assert found.psi.keys() == {"a", "b", "c"}
    run_id = Library().client.get_model_version("sites", "2").run_id
    assert found.before == Library().client.get_run(run_id).data.metrics["test_accuracy"]


def test_a_feature_that_moved_is_named(table: Path) -> None:
    found = measured(table, heavier)
    assert (found.drifted, found.feature) == (True, 1)
    assert (
        found.reasons[0] == f"feature 'weight' has a stability index {found.psi_of_all:.3f} beyond chance, above 0.25"
    )
    assert (
        f"| largest stability index, of all clients (feature 'weight') | {found.psi_of_all:.4f} |"
        in found.as_markdown()
    )
    assert "height" not in " ".join(found.reasons)


def test_the_index_is_that_of_raw_rows_against_raw_rows(table: Path) -> None:
    """The reference was counted from rows that were scaled, and scaled back."""
    trained_on = [client.train for client in raw_federation(sites_plan(table)).clients.values()]
    known = reference(moments(concatenate(trained_on).x), [split.x for split in trained_on])
    found = measured(table, heavier)
    parties = raw_federation(sites_plan(table)).clients
    today = concatenate([split for client in parties.values() for split in (client.train, client.test)]).x
    expected = [by_hand(concatenate(trained_on).x[:, at], today[:, at], known.edges[at]) for at in (0, 1)]
    beyond = expected - allowance(known.counts, count(known.edges, today))
    assert found.psi_of_all == pytest.approx(beyond.max(), rel=1e-6)


def test_the_client_whose_rows_moved_is_seen(table: Path) -> None:
    still = measured(table).psi
    found = measured(table, heavier, sites="b")
    assert found.psi["b"] > 2 > max(found.psi["a"], found.psi["c"])
    assert (found.psi["a"], found.psi["c"]) == (still["a"], still["c"])
    assert f"| b: largest stability index | {found.psi['b']:.4f} |" in found.as_markdown()


def test_an_accuracy_that_fell_is_seen_though_no_feature_moved(table: Path) -> None:
    other = {"sick": "well", "well": "sick"}
    found = measured(table, lambda row: row._replace(label=other[row.label]))
    (reason,) = found.reasons
    assert reason == f"accuracy is {found.now:.4f} and was {found.before:.4f}: worse by more than 0.05"
    assert found.now < 0.5 < found.before
    assert reason in found.as_markdown()


def test_an_error_that_grew_is_seen_and_one_that_shrank_is_not(table: Path) -> None:
    small = ["rounds=1", "baselines=false"]
    train(load_plan("linear-regression", small))
    Library().client.set_registered_model_alias("linear-regression", "champion", "1")
    worse = drift_of(load_plan("linear-regression", [*small, "data.intercept=9"]))
    assert [reason.partition(" is ")[0] for reason in worse.reasons] == ["mae"]
    assert worse.now > worse.before + 0.05
    better = drift_of(load_plan("linear-regression", [*small, "data.noise=0"]))
    assert (better.now < better.before, better.reasons) == (True, [])


@pytest.mark.parametrize("limits", ["{psi: 1000}", "{psi: 1000, worse_by: 1}"])
def test_the_limits_are_the_plans(table: Path, limits: str) -> None:
    write(table, [heavier(row) for row in ROWS])
    found = drift_of(sites_plan(table, f"drift={limits}"))
    assert not [reason for reason in found.reasons if "feature" in reason]
    assert found.drifted is bool(found.reasons) is ("worse_by" not in limits)


def test_clients_may_come_and_go(table: Path) -> None:
    write(table, [*(row for row in ROWS if row.site != "a"), *rows_of("d")])
    found = drift_of(sites_plan(table))
    assert found.psi.keys() == {"b", "c", "d"}


@pytest.mark.parametrize(
    "scaling",
    [
        "as_is",
        "standardize",
        "divide, by: 3",
    ],
)
def test_a_feature_that_never_changes_has_not_moved(table: Path, scaling: str) -> None:
    write(table, [row._replace(weight=97.65) for row in ROWS])
    plan = sites_plan(table, f"scaling={{kind: {scaling}}}")
    known = Reference(**load(reference_bytes(plan.federation())))
    today = [client.train.x for client in raw_federation(plan).clients.values()]
    found = np.sum([count(known.edges, rows) for rows in today], axis=0)
    assert moved(known.counts, found).max() == 0


# What the score is compared with


def scored(version: str, split: Split) -> float:
    with Library().open(f"sites/{version}") as stored:
        model = LoadedModel(stored.folder / "data" / "model.keras")
    return float(model.score(split, 2)["accuracy"].mean())


def flipped(row: Row) -> Row:
    return row._replace(label="well" if row.label == "sick" else "sick")


def test_the_champion_is_scored_on_the_servers_test_rows_of_today(table: Path) -> None:
    found = measured(table, flipped)
    assert found.rows == "test"
    assert found.now == scored("2", raw_federation(sites_plan(table)).test)
    assert "| accuracy on the server's test rows of today |" in found.as_markdown()


def test_nothing_that_it_was_trained_on_is_among_the_rows_that_it_is_scored_on(table: Path) -> None:
    before = raw_federation(sites_plan(table))
    trained_on = {row.tobytes() for client in before.clients.values() for row in client.train.x}
    write(table, [row for site in "abc" for row in rows_of(site) + rows_of(site, 20, seed=1)])
    today = raw_federation(sites_plan(table))
    assert len(today.test) > len(before.test)
    assert not trained_on & {row.tobytes() for row in today.test.x}


def recorded(version: str) -> float:
    with Library().open(f"sites/{version}") as stored:
        return float(stored.record(trusted_keys())["report"]["metrics"]["accuracy"])


def test_a_champion_that_is_not_the_last_of_its_training_has_its_own_score(table: Path) -> None:
    Library().client.set_registered_model_alias("sites", "champion", "1")
    found = measured(table)
    assert (found.version, found.rows, found.before) == ("1", "validation", recorded("1"))
    assert found.now == pytest.approx(found.before)
    assert "| accuracy on the server's validation rows, when it was trained |" in found.as_markdown()
    assert measured(table, flipped).now == scored("1", raw_federation(sites_plan(table)).validation)


def test_a_champion_of_a_training_that_never_finished_is_judged_by_its_score(table: Path) -> None:
    plan = sites_plan(table, "name=killed", "rounds=3")
    with watched_by(Interrupter()):
        train(plan, return_state=True)
    Library().client.set_registered_model_alias("killed", "champion", "1")
    found = drift(plan)
    assert (found.rows, found.psi, found.psi_of_all, found.feature) == ("validation", {}, None, None)
    assert not found.drifted
    assert "The champion's training never finished" in found.as_markdown()
    assert "stability index" not in found.as_markdown()


# Who hears of it


def test_what_drifted_is_an_event_about_the_model_and_what_has_not_is_none(table: Path) -> None:
    assert not drift("csv-template", settings(table)).drifted
    write(table, [heavier(row) for row in ROWS])
    found = drift("csv-template", settings(table))
    assert found.drifted
    wait_until(lambda: bool(events(DRIFTED, "roundhouse.model.sites")), 30)
    (event,) = events(DRIFTED, "roundhouse.model.sites")
    assert event["event"] == "roundhouse.drifted"
    assert event["resource"] == {"prefect.resource.id": "roundhouse.model.sites"}
    assert event["payload"] == found.model_dump()
    kept = Artifact.get("sites-drift")
    assert kept is not None
    assert kept.data == found.as_markdown()


# What goes wrong


def test_without_a_champion_it_is_skipped_and_says_why(table: Path) -> None:
    state = drift(sites_plan(table, "name=newcomer"), return_state=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Skipped")
    assert state.message == "newcomer has no champion yet; roundhouse promote newcomer makes one"


@pytest.mark.parametrize("features", ["[height]", "[height, weight, age]"], ids=["less", "more"])
def test_other_features_than_it_was_trained_on_are_one_line(table: Path, features: str) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},age", *(f"{line},7" for line in lines[1:])]))
    with pytest.raises(InputError, match="feature"):
        measure_drift.fn(sites_plan(table, f"data.features={features}"))


@pytest.mark.parametrize(
    "content",
    [b"torn", save({"edges": np.zeros((2, 10))}), save({"edges": np.zeros((2, 10)), "counts": np.zeros((2, 3))})],
    ids=["torn", "no counts", "other bins"],
)
def test_counts_that_are_damaged_are_one_line(table: Path, content: bytes) -> None:
    run_file("2", REFERENCE, "sites").write_bytes(content)
    line = r"^reference\.safetensors of the run of sites version 2 is damaged; train and promote again$"
    with pytest.raises(TrainingError, match=line):
        measure_drift.fn(sites_plan(table))


def test_a_champion_that_was_changed_is_not_asked(table: Path) -> None:
    Library().client.set_model_version_tag("sites", "2", "weights_sha256", "0" * 64)
    with pytest.raises(Exception, match=r"^sites/2 is not what its training registered: "):
        measure_drift.fn(sites_plan(table))
