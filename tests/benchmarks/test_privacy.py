"""Accuracy against epsilon in short: what ``make privacy`` measures holds for one seed and two epsilons already."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.privacy import measure
from benchmarks.privacy_families import FAMILIES, Family
from benchmarks.privacy_page import Cell, Judged, Told, draw, page
from configs.plan import Plan
from configs.privacy import neighbours
from federated.privacy.accounting import SelfComposed, tight
from tests.shared_data import shared_data

DIGITS, FASHION, HEART = FAMILIES
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
        plan = SHORT.cell(noise, 1)
        assert plan.algorithm.release is not None
        return tight([SelfComposed(plan.algorithm.release, plan.rounds)], 1e-5)

    assert cost(cells[0].noise) <= 1.0 < cost(cells[0].noise - 2e-4)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_cells_differ_in_noise_alone_and_keep_the_bound(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(tmp_path))
    noised, bounded = family.cell(1.5, 3), family.cell(0, 3)
    assert noised.privacy is not None
    assert f"delta {noised.privacy.delta:g};" in family.promise
    assert bounded.algorithm.unit is None
    differ = neighbours(noised.model_copy(update={"simulation": False}))  # what it would be, were it none
    assert differ is not None
    assert family.promise.startswith(f"{differ.said}; ")
    assert norm(noised) == norm(bounded) > 0
    changed = {"privacy", "algorithm"}
    assert noised.model_dump(exclude=changed) == bounded.model_dump(exclude=changed)
    bounds = {"algorithm": {"transforms": True, "local": {"dp_sgd", "clip_examples"}}, "privacy": True}
    assert noised.model_dump(exclude=bounds) == bounded.model_dump(exclude=bounds)


def norm(plan: Plan) -> float:
    local = plan.algorithm.local
    if plan.algorithm.transforms:
        return plan.algorithm.transforms[0].model_dump()["norm"]
    return local.dp_sgd.norm if local.dp_sgd else local.clip_examples or 0.0


@pytest.fixture(scope="module")
def hospitals() -> Iterator[list[Cell]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROUNDHOUSE_DATA", str(shared_data("heart-disease").parent))
        yield list(measure(HEART._replace(epsilons=(0.01, 1.0, math.inf)), (1,)))


def test_patients_are_hidden_at_little_cost_until_noise_drowns_them(hospitals: list[Cell]) -> None:
    drowned, noised, bounded = hospitals
    assert drowned.noise > 10 * noised.noise > bounded.noise == 0
    assert drowned.mean < noised.mean - 0.05
    assert abs(noised.mean - bounded.mean) < 0.1


def test_no_hospital_pays_more_than_epsilon_and_each_counts_alike(hospitals: list[Cell]) -> None:
    plan = HEART.cell(hospitals[1].noise, 1)
    costs = [
        tight([SelfComposed(plan.algorithm.local.release(rows), 2 * plan.rounds)], 1e-4) for rows in (199, 172, 30, 85)
    ]
    assert 0.999 < max(costs) <= 1.0
    (judged,) = hospitals[1].judged
    *each, _ = judged.parts.values()
    assert (len(each), judged.accuracy) == (4, pytest.approx(sum(each) / 4))


def test_the_table_in_short_is_that_of_the_page() -> None:
    docs = Path(__file__).parents[2] / "docs"
    page, short = ((docs / name).read_text() for name in ("privacy-utility.md", "privacy.md"))
    measured = {
        tuple(cell.strip() for cell in line.split("|")[1:3]): line.split("|")[4].split()[0]
        for line in page.splitlines()
        if re.match(r"\| [a-z-]+ \| [\d.a-z]+ \| [\d.a-z]+ \| \d\S+ \(", line)
    }
    assert {"digits", "fashion-mnist", "fed-heart"} == {family for family, _ in measured}
    for family in ("digits", "fashion-mnist"):
        (line,) = re.findall(rf"^\| {family}, .*$", short, re.MULTILINE)
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        assert cells == [measured[family, epsilon] for epsilon in ("1", "2", "4", "8", "infinite")]
    (line,) = re.findall(r"^Fed-Heart by record.*$", short, re.MULTILINE)
    assert re.findall(r"\d\d\.\d", line) == [measured["fed-heart", epsilon] for epsilon in ("1", "5", "10", "infinite")]


def test_a_family_without_its_data_is_left_out_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(tmp_path))
    assert "ROUNDHOUSE_DATA" in FASHION.absent
    monkeypatch.delenv("ROUNDHOUSE_DATA")
    assert "ROUNDHOUSE_DATA" in FASHION.absent
    assert not DIGITS.absent


def test_the_table_has_what_was_measured_and_the_picture_is_one() -> None:
    accuracies = {4.3764: (0.74, 0.75, 0.79), 0.0: (0.86, 0.88, 0.9)}
    judged = {
        noise: tuple(Judged(one, {"ward": one, "all rows": one}) for one in found)
        for noise, found in accuracies.items()
    }
    cells = [Cell(epsilon, noise, judged[noise]) for epsilon, noise in ((1.0, 4.3764), (math.inf, 0.0))]
    guess = Judged(0.5, {"ward": 0.5, "all rows": 0.4})
    told = [
        Told("digits", "300 clients", DIGITS.promise, DIGITS.drawn, cells),
        Told("wards", "1 client", HEART.promise, HEART.drawn, cells, guess),
    ]
    text = page(told, ["fashion-mnist is left out"], (1, 2, 3))
    assert "| digits | 1 | 4.3764 | 76.0 (74.0–79.0) |" in text
    assert "| digits | infinite | none | 88.0 (86.0–90.0) |" in text
    assert "| 1 | 76.0 | 76.0 | 76.0 |" in text
    assert "| the commonest answer to all | 50.0 | 40.0 | 50.0 |" in text
    said = text.replace("\n", " ")
    assert "seeds 1, 2, 3," in said
    assert "- **digits** (one client, added or removed; delta 1e-05; Poisson sampling): 300 clients." in said
    assert "- fashion-mnist is left out." in said
    assert draw(told).startswith(b"\x89PNG")
