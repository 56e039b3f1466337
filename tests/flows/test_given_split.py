"""A training on rows that clients set apart themselves, scaled by their own numbers, with no row that steers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from configs.plan import Plan
from flows.retrain import retrain
from models.loaded_model import LoadedModel
from tasks.drifting import Drift, measure_drift
from tasks.stored import Library
from tasks.training import RoundReport
from tasks.watching import watched_by
from tests.flows.test_evaluate_every import Heard
from tests.flows.test_retrain import ROWS, sites_plan, write
from tests.tasks.test_stored import at, new_home, run_file, stored_file

SETTINGS = [
    "data.split={test: 0.3, seed: 1}",
    "holdout={test: given, validation: 0, client_test: given}",
    "scaling={kind: standardize, per: client, ddof: 1}",
    "promotion.gates=[{kind: not_worse, metric: accuracy, by: 0.0}]",
]


class Trained(NamedTuple):
    """A champion, the plan that it came from, and every round's report."""

    home: Path
    plan: Plan
    reports: list[RoundReport]


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    home = new_home(tmp_path_factory.mktemp("given"), empty_mlflow)
    plan = sites_plan(home.parent / "table.csv", *SETTINGS)
    write(home.parent / "table.csv", ROWS)
    with at(home), watched_by(heard := Heard()):
        retrain(plan)
    return Trained(home, plan, heard.reports)


@pytest.fixture
def champion(trained: Trained) -> Iterator[Trained]:
    """In its home; the table is as it was again afterwards."""
    with at(trained.home):
        yield trained
    write(trained.home.parent / "table.csv", ROWS)


def drift_of(plan: Plan) -> Drift:
    found = measure_drift.fn(plan)
    assert found is not None
    return found


def test_rounds_are_measured_on_clients_rows_alone(trained: Trained) -> None:
    for report in trained.reports:
        assert {"client_accuracy_worst", "client_loss_median", "train_loss"} <= report.metrics.keys()
        assert not {"loss", "accuracy"} & report.metrics.keys()
        assert len(report.spread) == 5


def test_the_served_model_takes_rows_that_callers_scaled_by_their_own_numbers(champion: Trained) -> None:
    """Scaled here by NumPy, client for client, it is right as often as the training said."""
    table = champion.plan.data.load()
    model = LoadedModel(stored_file("2", "data/model.keras", "sites"))
    right = []
    for site in "abc":
        x, y = table.rows.x[table.keys == site], table.rows.y[table.keys == site]
        aside = table.reserved[table.keys == site]
        scaled = (x - x[~aside].mean(axis=0)) / x[~aside].std(axis=0, ddof=1)
        right.append((model.predict(scaled[aside])[:, 0] > 0.5) == y[aside])
    final = Library().client.get_run(Library().client.get_model_version("sites", "2").run_id).data.metrics
    assert np.concatenate(right).mean() == pytest.approx(final["test_accuracy"])
    assert final["test_accuracy"] > 0.8


def test_the_card_says_whose_the_test_rows_are_and_who_scales(champion: Trained) -> None:
    card = run_file("2", "model-card.md", "sites").read_text()
    assert "with 84 training rows; 36 rows for testing are the clients' own." in card
    assert "- Takes rows that callers have scaled by their own numbers." in card


def test_a_champion_does_today_as_well_as_when_it_was_trained(champion: Trained) -> None:
    found = drift_of(champion.plan)
    assert found.now == pytest.approx(found.before)
    assert (found.rows, found.drifted) == ("test", False)


def test_a_shift_shows_though_clients_scale_it_away(champion: Trained) -> None:
    moved = [row._replace(weight=row.weight + 3) if row.site == "a" else row for row in ROWS]
    write(champion.home.parent / "table.csv", moved)
    found = drift_of(champion.plan)
    assert found.drifted
    assert found.psi["a"] > champion.plan.drift.psi
    assert found.feature == 1


def test_a_version_that_is_not_the_last_of_its_training_is_measured_on_test_rows(champion: Trained) -> None:
    library = Library()
    library.client.set_registered_model_alias("sites", "champion", "1")
    try:
        found = drift_of(champion.plan)
    finally:
        library.client.set_registered_model_alias("sites", "champion", "2")
    assert (found.version, found.rows, found.before) == ("1", "test", None)
