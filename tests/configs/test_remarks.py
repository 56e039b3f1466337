"""What is legal and seldom meant is said in a line before anything trains, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.loading import load_plan, shipped
from configs.remarks import remarks
from federated.errors import PlanError
from tests.roundhouse.commands import roundhouse

ROWS = "site,height,y\n" + "".join(f"{site},{k},{y}\n" for k in range(12) for site, y in (("a", 0), ("b", k % 2)))


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    (tmp_path / "t.csv").write_text(ROWS)
    data = f"data={{kind: csv, path: {tmp_path / 't.csv'}, target: y, client: site, features: [height]}}"
    return [data, "partition={kind: natural}", "scaling={kind: as_is}", "model={kind: logistic}", "quorum=1"]


def said(*overrides: str) -> list[str]:
    plan = load_plan("quickstart", ["algorithm.select={kind: all}", "algorithm.local.batch_size=2", *overrides])
    return remarks(plan, plan.federation())


@pytest.mark.parametrize("name", shipped())
def test_of_a_shipped_plan_that_finds_its_data_there_is_nothing_to_say(name: str) -> None:
    plan = load_plan(name)
    try:
        federation = plan.federation()
    except (PlanError, ValueError):
        pytest.skip("its data are not here")
    assert remarks(plan, federation) == []


def test_a_client_with_one_class_is_named(overrides: list[str]) -> None:
    assert said(*overrides) == ["partition: training rows of one class only: 1 of 2 clients (a)"]


def test_clients_with_fewer_rows_than_a_batch_are_named(overrides: list[str]) -> None:
    (line,) = said(*overrides, "algorithm.local.batch_size=50")[1:]
    assert line == (
        "algorithm.local.batch_size: fewer than 50 training rows, all of them one batch: 2 of 2 clients (a, b)"
    )


def test_sizes_that_count_twice_are_told() -> None:
    by_size = "algorithm.select={kind: by_size, cohort: 5}"
    (line,) = said(by_size)
    assert line == "algorithm.rule: weighted_mean and select by_size count clients' rows twice; take the rule mean"
    assert said(by_size, "algorithm.rule={kind: mean}") == []


def test_commands_say_it_beside_their_output(overrides: list[str], tmp_path: Path) -> None:
    changes = ["algorithm.select={kind: all}", "algorithm.local.batch_size=2", *overrides]
    arguments = [part for override in changes for part in ("--set", override)]
    line = "partition: training rows of one class only: 1 of 2 clients (a)"
    for command in (("check",), ("data", "--picture", str(tmp_path / "held.png"))):
        done = roundhouse(tmp_path, command[0], "quickstart", *arguments, *command[1:])
        assert (done.returncode, done.stderr) == (0, f"note: {line}\n")
        done = roundhouse(tmp_path, command[0], "quickstart", *arguments, *command[1:], "--json")
        assert (json.loads(done.stdout)["remarks"], done.stderr) == ([line], "")
