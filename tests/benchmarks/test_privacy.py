"""Accuracy against epsilon in short: what ``make privacy`` measures holds for one seed and two epsilons already."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.privacy import FAMILIES, Family, absent, measure
from benchmarks.privacy_page import Cell, Told, draw, section
from federated.privacy.accounting import tight

DIGITS, FASHION = FAMILIES
SHORT = DIGITS._replace(epsilons=(1.0, math.inf))
CHANCE = 0.1


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return list(measure(SHORT, (1,)))


def test_noise_lowers_the_accuracy_which_stays_far_above_chance(cells: list[Cell]) -> None:
    noised, clipped = cells
    assert noised.noise > 0
    assert clipped.noise == 0
    assert 4 * CHANCE < noised.mean < clipped.mean - 0.02


def test_the_noise_of_a_cell_is_the_least_that_keeps_to_its_epsilon(cells: list[Cell]) -> None:
    def cost(noise: float) -> float:
        return tight([SHORT.spends(noise, SHORT.rounds)], SHORT.delta)

    assert cost(cells[0].noise) <= 1.0 < cost(cells[0].noise - 2e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_is_counted_is_what_the_plan_releases(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(tmp_path))
    noised, clipped = family.cell(1.5, 3), family.cell(0, 3)
    release, times = family.spends(1.5, family.rounds)
    assert (noised.algorithm.release, noised.rounds) == (release, times)
    assert noised.privacy is not None
    assert noised.privacy.delta == family.delta
    assert clipped.algorithm.release is None
    assert {transform.kind for transform in clipped.algorithm.transforms} == {"clip"}


def test_a_family_without_its_data_is_left_out_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(tmp_path))
    assert "ROUNDHOUSE_DATA" in absent(FASHION)
    monkeypatch.delenv("ROUNDHOUSE_DATA")
    assert "ROUNDHOUSE_DATA" in absent(FASHION)
    assert not absent(DIGITS)


def test_the_table_has_what_was_measured_and_the_picture_is_one() -> None:
    cells = [Cell(1.0, 4.3764, (0.74, 0.75, 0.79)), Cell(math.inf, 0.0, (0.86, 0.88, 0.9))]
    told = [Told("digits", "300 clients", "client", 1e-5, 0.2, cells)]
    text = section(told, ["fashion-mnist is left out"], (1, 2, 3))
    assert "| digits | 1 | 4.3764 | 76.0 (74.0–79.0) |" in text
    assert "| digits | infinite | none | 88.0 (86.0–90.0) |" in text
    said = text.replace("\n", " ")
    assert "seeds 1, 2, 3," in said
    assert "- **digits** (one client, added or removed; delta 1e-05; Poisson sampling): 300 clients." in said
    assert "- fashion-mnist is left out." in said
    assert draw(told).startswith(b"\x89PNG")
