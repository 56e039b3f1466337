"""``roundhouse check`` and its like: quick, and clear about what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roundhouse.commands import environment, here

TABLE = "site,height,label\n" + "\n".join(f"{'ab'[n % 2]},{n / 7},{n % 3 % 2}" for n in range(60))


def test_check_prints_the_whole_plan_and_what_it_costs(home: Path) -> None:
    done = here(home, "check", "quickstart")
    assert done.returncode == 0
    for text in (
        "learning_rate: 0.1",
        "parameters              4,810",
        "up a round              0.18 MiB",
        "memory, about",
    ):
        assert text in done.stdout


def test_check_gives_programs_the_plan_and_the_estimate(home: Path) -> None:
    answer = json.loads(here(home, "check", "quickstart", "--set", "rounds=7", "--json").stdout)
    assert answer["plan"]["rounds"] == 7
    estimate = answer["estimate"]
    assert (estimate["clients"], estimate["cohort"], estimate["parameters"]) == (20, 10, 4810)
    assert estimate["bytes_up"] == estimate["bytes_down"] == 10 * 4 * 4810


def test_check_without_data_takes_the_plan_for_what_it_says(home: Path) -> None:
    absent = ("csv-template", "--no-data", "--set", "data.path=/nowhere/table.csv")
    done = here(home, "check", *absent)
    assert (done.returncode, done.stderr) == (0, "")
    assert "path: /nowhere/table.csv" in done.stdout
    assert "parameters" not in done.stdout
    assert here(home, "check", *absent, "--set", "rounds=0").returncode == 2


def test_plans_lists_every_plan_that_ships(home: Path) -> None:
    listed = here(home, "plans").stdout
    for name in ("quickstart", "breast-cancer", "linear-regression", "csv-template"):
        assert name in listed


@pytest.mark.parametrize("arguments", [["--help"], ["check", "quickstart"], ["check", "breast-cancer"], ["plans"]])
def test_checking_imports_nothing_heavy(home: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from roundhouse.cli import app\n"
        f"try: app({arguments!r})\nexcept SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'prefect', 'mlflow', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["algorithm.rule.kind=meen"], "algorithm.rule: unknown kind 'meen'; expected one of 'mean', 'weighted_mean'"),
        (["algorithm.local.optimizer.momentun=0.9"], "sgd.momentun: unknown field; did you mean 'momentum'?"),
        (["rounds=many"], "rounds: input should be a valid integer"),
        (["quorum=11"], "quorum: 11 updates are needed, but a cohort has 10 clients"),
        (["algorithm.select.cohort=21"], "algorithm.select.uniform.cohort: 21 clients a round, but there are 20"),
        (["algorithm.transforms.0.norm=.nan"], "algorithm.transforms.0.clip.norm: input should be"),
        (["model={kind: linear}"], "model.linear: the target has classes; use logistic or mlp"),
        (["partition.alpha=0.001"], "raise alpha, or lower min_rows or clients"),
        (["partition={kind: natural}"], "partition.natural: data.digits does not say whose rows are whose"),
        (["stop={metric: mae, at_most: 1}"], "stop.metric: classification has no mae"),
        (["model={kind: custom, target: 'no_such_module:build'}"], "cannot import 'no_such_module'"),
        (["rounds"], "--set rounds: expected path=value"),
    ],
)
def test_a_bad_plan_is_one_line_that_names_the_field_and_exit_code_2(home: Path, changes: list[str], says: str) -> None:
    done = here(home, "check", "quickstart", *(word for change in changes for word in ("--set", change)))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        (TABLE, "data.target=lable", "data.csv.target: table.csv has no column 'lable'; did you mean 'label'?"),
        (TABLE, "data.client=hospital", "data.csv.client: table.csv has no column 'hospital'; it has site, height"),
        (TABLE.replace("0.0,", "low,", 1), "rounds=1", "data.csv.features: expected numbers, got text in height"),
        (TABLE.replace("0.0,", ",", 1), "rounds=1", "1 rows of table.csv have no value in height"),
        (
            TABLE + "\nc,1.0,1",
            "rounds=1",
            "client 'c' has 1 rows after those of the server's holdout and needs at least 2",
        ),
        (
            TABLE.replace(",0.0", ",inf", 1),
            "rounds=1",
            "NaN or infinity in 1 rows, the first is row 1 (counted from 1)",
        ),
        ("", "rounds=1", "table.csv is none"),
    ],
)
def test_bad_data_are_one_line_that_names_the_place_and_exit_code_2(
    home: Path, table: str, change: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.csv").write_text(table)
    monkeypatch.chdir(tmp_path)
    done = here(home, "check", "csv-template", "--set", change)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_an_unknown_plan_names_a_close_one(home: Path) -> None:
    done = here(home, "check", "quikstart")
    assert done.returncode == 2
    assert done.stderr == "error: there is no plan 'quikstart'; did you mean 'quickstart'?\n"


def test_debug_shows_the_traceback(home: Path) -> None:
    done = here(home, "check", "quickstart", "--set", "rounds=0", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
