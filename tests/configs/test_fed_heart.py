"""The plan papers/fed-heart: its rows are those of an independent preparation, to the last one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from configs.loading import load_plan
from configs.plan import Plan
from federated.federation import Federation
from tests.shared_data import shared_data

CENTRES = ("cleveland", "hungarian", "switzerland", "va")
DROPPED = [10, 11, 12]  # slope, ca, thal


class Centre(NamedTuple):
    """A hospital's rows as they are after the preparation, before scaling."""

    x: np.ndarray
    y: np.ndarray
    train: list[int]
    test: list[int]

    def scaled(self, rows: list[int]) -> np.ndarray:
        """By pandas, whose deviation divides by n - 1."""
        train = pd.DataFrame(self.x[self.train])
        return ((self.x[rows] - train.mean().to_numpy()) / train.std().replace(0, 1).to_numpy()).astype(np.float32)


def prepared(folder: Path) -> dict[str, Centre]:
    """du Terrail et al. 2022, with nothing of this project."""
    frames = {}
    for name in CENTRES:
        lines = (folder / f"processed.{name}.data").read_text().split()
        cells = [line.split(",") for line in lines]
        whole = [[float(cell) for place, cell in enumerate(row) if place not in DROPPED] for row in cells if fits(row)]
        frames[name] = pd.DataFrame(whole)
    together = pd.concat(frames)
    wide = pd.get_dummies(together.drop(columns=10), columns=[2, 6], drop_first=True, dtype=float)
    return {name: centre(wide.loc[name].to_numpy(), (frames[name][10] > 0).to_numpy()) for name in CENTRES}


def fits(row: list[str]) -> bool:
    return all(cell != "?" for place, cell in enumerate(row) if place not in DROPPED)


def centre(x: np.ndarray, y: np.ndarray) -> Centre:
    several = min(y.sum(), (~y).sum()) > 2
    train, test = train_test_split(
        list(range(len(y))), test_size=0.34, random_state=43, stratify=y if several else None
    )
    return Centre(x, y, train, test)


@pytest.fixture(scope="module")
def centres() -> dict[str, Centre]:
    return prepared(shared_data("heart-disease"))


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(shared_data("heart-disease").parent))
    return load_plan("papers/fed-heart")


@pytest.fixture
def federation(plan: Plan) -> Federation:
    return plan.federation()


def test_each_hospital_has_the_rows_of_the_paper(federation: Federation) -> None:
    counts = {name: (len(client.train), len(client.test)) for name, client in federation.clients.items()}
    assert counts == {"cleveland": (199, 104), "hungarian": (172, 89), "switzerland": (30, 16), "va": (85, 45)}
    assert (len(federation.test), len(federation.validation)) == (254, 0)


def test_the_model_has_fourteen_parameters(plan: Plan, federation: Federation) -> None:
    assert federation.inputs == (13,)
    assert plan.model.parameters(federation.inputs, federation.classes) == 14


def test_the_share_of_the_ill_is_that_of_the_paper(federation: Federation) -> None:
    shares = [np.concatenate([client.train.y, client.test.y]).mean() for client in federation.clients.values()]
    assert [round(float(share), 3) for share in shares] == [0.459, 0.375, 0.978, 0.777]


# Columns of the table with the levels of cp and restecg in their places; pandas puts those last.
ORDER = [0, 1, *range(8, 11), 2, 3, 4, *range(11, 13), 5, 6, 7]


@pytest.mark.parametrize("name", CENTRES)
def test_every_row_is_that_of_an_independent_preparation(federation: Federation, centres, name) -> None:
    client, other = federation.clients[name], centres[name]
    for split, rows in ((client.train, sorted(other.train)), (client.test, sorted(other.test))):
        np.testing.assert_array_equal(split.y, other.y[rows])
        np.testing.assert_allclose(split.x, other.scaled(rows)[:, ORDER], rtol=1e-5, atol=1e-5)


def test_before_scaling_every_bit_agrees(plan: Plan, centres) -> None:
    raw = plan.model_copy(update={"scaling": load_plan("quickstart", ["scaling={kind: as_is}"]).scaling}).federation()
    for name, other in centres.items():
        x = other.x[:, ORDER].astype(np.float32)
        np.testing.assert_array_equal(raw.clients[name].train.x, x[sorted(other.train)])
        np.testing.assert_array_equal(raw.clients[name].test.x, x[sorted(other.test)])


def test_every_hospital_is_scaled_by_its_own_training_rows(federation: Federation) -> None:
    for client in federation.clients.values():
        x = client.train.x.astype(float)
        np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
        std = x.std(axis=0, ddof=1)
        np.testing.assert_allclose(std[std > 0], 1, rtol=1e-5)
    assert (federation.clients["switzerland"].train.x.std(axis=0) == 0).sum() == 1  # nobody's cholesterol was noted


def test_a_hospital_knows_something_of_the_disease(federation: Federation) -> None:
    """The targets belong to the rows: a model of Cleveland's is right more often than chance at its own test."""
    client = federation.clients["cleveland"]
    fitted = LogisticRegression().fit(client.train.x, client.train.y)
    assert fitted.score(client.test.x, client.test.y) > 0.7
