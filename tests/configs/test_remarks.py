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


SWITZERLAND = "partition: training rows of one class only: 1 of 4 clients (switzerland)"
"""All of its patients to train on are ill."""


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    (tmp_path / "t.csv").write_text(ROWS)
    data = f"data={{kind: csv, path: {tmp_path / 't.csv'}, target: y, client: site, features: [height]}}"
    return [data, "partition={kind: natural}", "scaling={kind: as_is}", "model={kind: logistic}", "quorum=1"]


def said(*overrides: str) -> list[str]:
    plan = load_plan("quickstart", ["algorithm.select={kind: all}", "algorithm.local.batch_size=2", *overrides])
    return remarks(plan, plan.federation())


@pytest.mark.parametrize("name", shipped())
def test_of_a_shipped_plan_that_finds_its_data_only_what_is_so_is_said(name: str) -> None:
    plan = load_plan(name)
    try:
        federation = plan.federation()
    except (PlanError, ValueError):
        pytest.skip("its data are not here")
    hearts = name.startswith("papers/fed-heart")
    assert remarks(plan, federation) == ([SWITZERLAND] if hearts else [])


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


ALL = "algorithm.select={kind: all}"


def test_clients_that_are_never_there_are_named() -> None:
    away = "client-03: {probability: 0}, client-05: {cycle: 4, at: []}, client-06: {probability: 0.1}"
    (line,) = said(f"algorithm.select={{kind: available, cohort: 5, clients: {{{away}}}}}", "quorum=1")
    assert line == ("algorithm.select.available: never there, so never trained: 2 of 20 clients (client-03, client-05)")


@pytest.mark.parametrize(("quorum", "trim", "since"), [(4, 0.2, 5), (9, 0.1, 10), (2, 0.4, 3)])
def test_a_share_that_cuts_nobody_of_the_smallest_cohort_is_told(quorum: int, trim: float, since: int) -> None:
    rule = f"algorithm.rule={{kind: trimmed_mean, trim: {trim}}}"
    assert said(ALL, f"quorum={quorum}", rule) == [
        f"algorithm.rule.trimmed_mean.trim: {trim} cuts nobody where only {quorum} updates come, which quorum allows; "
        f"it cuts one at each end from {since} on"
    ]
    assert said(ALL, f"quorum={since}", rule) == []


def test_a_share_of_nothing_is_meant() -> None:
    assert said(ALL, "quorum=1", "algorithm.rule={kind: trimmed_mean, trim: 0}") == []


def test_speakers_that_say_too_little_are_told(tmp_path: Path) -> None:
    speeches = "".join(f"S{number}:\n{'to be or not ' * (10 if number < 2 else 1)}\n\n" for number in range(8))
    (tmp_path / "play.txt").write_text(speeches)
    text = f"data={{kind: text, path: {tmp_path / 'play.txt'}, past: 10}}"
    given = "holdout={test: given, client_test: given, validation: 0}"
    gru = "model={kind: gru, vocabulary: 8}"
    found = said(text, given, gru, "partition={kind: natural}", "scaling={kind: as_is}", "quorum=1", "stop=null")
    assert found == ["data.text: left out for too little text: 6 of 8 speakers (S2, S3, S4, S5, S6 …)"]


def test_commands_say_it_beside_their_output(overrides: list[str], tmp_path: Path) -> None:
    changes = ["algorithm.select={kind: all}", "algorithm.local.batch_size=2", *overrides]
    arguments = [part for override in changes for part in ("--set", override)]
    line = "partition: training rows of one class only: 1 of 2 clients (a)"
    for command in (("check",), ("data", "--picture", str(tmp_path / "held.png"))):
        done = roundhouse(tmp_path, command[0], "quickstart", *arguments, *command[1:])
        assert (done.returncode, done.stderr) == (0, f"note: {line}\n")
        done = roundhouse(tmp_path, command[0], "quickstart", *arguments, *command[1:], "--json")
        assert (json.loads(done.stdout)["remarks"], done.stderr) == ([line], "")
