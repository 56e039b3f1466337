"""The model card: every promised part, and no number that the summary does not have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from configs.loading import load_plan
from configs.plan import Plan
from federated.component import Vector
from federated.data import Split
from federated.division import Holdout
from federated.engine import Scores
from federated.federation import Federation, federate
from federated.partitions import Natural
from federated.scaling import AsIs
from flows.retrain import retrain
from models.loaded_model import LoadedModel
from tasks.model_card import model_card, shortened
from tasks.promoting import raw_federation
from tasks.stored import Library
from tasks.summary import Summary
from tasks.training import Contribution, RoundReport, Training
from tests.fakes import FakeEngine, line_federation, small_dataset
from tests.flows.test_retrain import ROWS, sites_plan, write
from tests.tasks.test_stored import at, new_home, stored_file

SECTIONS = ["Data", "Quality", "By class", "Privacy", "Limits", "Training", "Clients"]
MLFLOW_HOLDS = 5000


class Published(NamedTuple):
    """What a promoted training left in MLflow."""

    plan: Plan
    card: str
    description: str
    summary: Summary
    right: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def published(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Of ``sites``, whose second version was promoted; and which of the server's test rows it got right."""
    home = new_home(tmp_path_factory.mktemp("card"), empty_mlflow)
    write(home.parent / "table.csv", ROWS)
    gate = "promotion.gates=[{kind: at_least, metric: accuracy, value: 0.0}]"
    plan = sites_plan(home.parent / "table.csv", gate, "description=Who is sick, over three sites")
    with at(home):
        retrain(plan)
        library = Library()
        version = library.client.get_model_version("sites", "2")
        test = raw_federation(plan).test
        predicted = LoadedModel(stored_file("2", "data/model.keras", "sites")).predict(test.x)
        return Published(
            plan=plan,
            card=library.run_file(str(version.run_id), "model-card.md").decode(),
            description=str(version.description),
            summary=Summary.model_validate_json(library.run_file(str(version.run_id), "summary.json")),
            right=(predicted[:, 0] > 0.5) == test.y,
            labels=test.y,
        )


def section(card: str, heading: str) -> str:
    return re.split(r"^## ", card, flags=re.MULTILINE)[1 + SECTIONS.index(heading)].partition("\n\n")[2]


def cells(text: str) -> list[list[str]]:
    """The tables' rows, their headings left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in lines]
    return rows[2:]


def test_a_training_has_a_card_with_every_part(published: Published) -> None:
    assert published.card.startswith("# sites version 2\n\nWho is sick, over three sites\n\n## Data\n\n")
    assert re.findall("^## (.*)$", published.card, flags=re.MULTILINE) == SECTIONS


def test_the_card_is_the_versions_description_and_the_promotion_stands_below_it(published: Published) -> None:
    card, _, verdicts = published.description.partition("\n\n## Promotion\n\n")
    assert card == published.card
    assert "| at_least accuracy | passed |" in verdicts


def test_its_data_are_the_federations_and_its_clients_numbers_the_summarys(published: Published) -> None:
    federation, text = published.plan.federation(), section(published.card, "Data")
    train_rows = {name: len(client.train) for name, client in federation.clients.items()}
    assert text.startswith(
        f"Source `csv`: 3 clients with {sum(train_rows.values())} training rows; {len(federation.test)} rows for "
        f"testing and {len(federation.validation)} for validation are no client's."
    )
    assert cells(section(published.card, "Clients")) == [
        [name, str(train_rows[name]), f"{numbers['own_accuracy']:.4f}"]
        for name, numbers in published.summary.per_client.items()
    ]


def test_its_training_is_the_plans_and_the_summarys(published: Published) -> None:
    assert dict(cells(section(published.card, "Training"))) == {
        "model": "mlp, 33 parameters",
        "rounds": "2, ended by rounds",
        "clients a round": "3 (all)",
        "local training": "2 epochs of adam",
        "transforms": "none",
        "aggregation": "weighted_mean",
        "weights": f"sha256 `{published.summary.weights_sha256}`",
        "MLflow run": published.summary.run_id,
    }


def test_its_quality_is_every_number_of_the_summary_and_names_the_worst_client(published: Published) -> None:
    found = dict(cells(section(published.card, "Quality")))
    assert found == {name.replace("_", " "): f"{value:.4f}" for name, value in published.summary.metrics.items()}
    assert {"test accuracy", "test loss", "client accuracy worst"} <= found.keys()
    worst = min(numbers["own_accuracy"] for numbers in published.summary.per_client.values())
    assert found["client accuracy worst"] == f"{worst:.4f}"


def test_its_classes_are_those_of_the_server_counted_by_what_is_served(published: Published) -> None:
    sick, well = ([label, published.labels == number] for number, label in enumerate(("sick", "well")))
    assert cells(section(published.card, "By class")) == [
        [label, str(rows.sum()), f"{published.right[rows].mean():.4f}"] for label, rows in (sick, well)
    ]
    assert published.right.mean() == pytest.approx(published.summary.metrics["test_accuracy"])


def test_it_says_that_there_is_no_privacy_guarantee_and_how_rough_the_numbers_are(published: Published) -> None:
    assert "There is no differential privacy" in section(published.card, "Privacy")
    smallest = min(len(client.test) for client in published.plan.federation().clients.values())
    assert f"The smallest client has {smallest} test rows" in section(published.card, "Limits")


# Without a training


class AlwaysRight(FakeEngine):
    """Recognises every row."""

    def score(self, params: Vector, data: Split) -> Scores:
        return {"loss": np.zeros(len(data)), "accuracy": np.ones(len(data))}


def card_of(federation: Federation, privacy: str = "", *overrides: str) -> str:
    """The card of two rounds with these parties."""
    plan = load_plan("linear-regression" if federation.labels is None else "quickstart", overrides)
    engine = FakeEngine() if federation.labels is None else AlwaysRight()
    cohort = tuple(Contribution(name, "0" * 64, 1.0) for name in federation.clients)
    last = RoundReport(2, cohort, (), {"loss": 1.0, "seconds_round": 0.1}, (0.0,) * 5, {})
    score = "mae" if federation.labels is None else "accuracy"
    summary = Summary(
        run_id="abc",
        plan=plan.name,
        rounds=2,
        stop_reason="rounds",
        privacy=privacy,
        metrics={"test_loss": 0.25, f"test_{score}": 0.5},
        per_client={
            name: {"train_rows": float(len(client.train)), "own_loss": 1.0, f"own_{score}": 0.125}
            for name, client in federation.clients.items()
        },
        model_name=plan.name,
        model_version="7",
        weights_sha256="f" * 64,
        seconds=1.0,
    )
    return model_card(Training(plan, federation, engine), engine.init(0), [last, last], summary)


def renamed(federation: Federation, name: str) -> Federation:
    """The same parties, each called ``name`` and its number."""
    clients = {f"{name}{number}": client for number, client in enumerate(federation.clients.values())}
    return Federation(clients, federation.validation, federation.test, federation.labels, federation.scaling)


def test_a_regression_has_errors_and_no_classes() -> None:
    card = card_of(line_federation(clients=3))
    assert "mae on its own test rows" in card
    assert "accuracy" not in card
    assert "By class" not in card


def test_privacy_that_was_spent_is_said_in_place_of_its_absence() -> None:
    card = card_of(line_federation(clients=3), "epsilon 3.1416 (one client)")
    assert "The weights are differentially private: epsilon 3.1416 (one client). Scores, cohorts" in card
    assert "no differential privacy" not in card


def test_a_simulation_is_not_said_to_be_private() -> None:
    card = card_of(line_federation(clients=3), "epsilon 3.1416 (one client)", "simulation=true")
    assert "There is no differential privacy" in card
    assert "Noise was simulated, and counted as if it were secret: epsilon 3.1416 (one client)." in card


@pytest.mark.parametrize("clients", [3, 50, 1000])
def test_the_card_of_many_clients_fits_a_description_beside_the_verdicts(clients: int) -> None:
    card = card_of(line_federation(clients=clients, points=10))
    text = shortened(card)
    assert len(text) <= MLFLOW_HOLDS - 1000
    assert text == card or text.endswith("\n\nThe rest is in model-card.md of the MLflow run.")
    assert card.startswith(text.partition("\n\nThe rest is")[0])
    assert f"{clients} clients with " in text


def test_a_card_that_is_too_long_is_cut_between_lines() -> None:
    for length in range(3400, 3600):
        card = ("# a\n\n" + "a line of this card\n" * 400)[:length]
        if length <= 3500:
            assert shortened(card) == card
        else:
            assert set(shortened(card).splitlines()[2:-2]) == {"a line of this card"}


def test_names_of_clients_that_are_long_do_not_push_out_what_must_be_known() -> None:
    federation = renamed(line_federation(clients=50, points=10), "university-hospital-department-of-cardiology-")
    text = shortened(card_of(federation))
    for part in ("test mae", "Clients' rows stay with the clients", "Accepts rows of the shape"):
        assert part in text


def test_a_card_that_shows_some_of_the_clients_says_so() -> None:
    assert "and 7 more" in card_of(line_federation(clients=57, points=10))


@pytest.mark.parametrize("name", ["north|south ", "north\nsouth "])
def test_a_clients_name_does_not_break_the_table(name: str) -> None:
    rows = [line for line in card_of(renamed(line_federation(clients=3), name)).splitlines() if "south" in line]
    assert len(rows) == 3
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_a_class_that_the_server_has_no_rows_of_is_said_to_have_none() -> None:
    federation = federate(small_dataset(rows=60, classes=3), Natural(), Holdout(test=0.02), AsIs(), 0)
    rows = cells(section(card_of(federation), "By class"))
    assert [label for label, *_ in rows] == ["class-0", "class-1", "class-2"]
    assert sorted(row[1:] for row in rows) == [["0", "no rows"], ["0", "no rows"], ["1", "1.0000"]]
