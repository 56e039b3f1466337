"""The page of reproductions is of today's plans, and what it says comes out again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reproductions import fed_heart, fedavg, kept, page, published
from benchmarks.reproductions.sweep import Wanted, place_of
from configs.loading import load_plan
from tests.shared_data import shared_data

ROOT = Path(__file__).parents[2]
HEARTS, ROUNDS = kept.read(fed_heart.FILE), kept.read(fedavg.FILE)
CLOSE = 3
"""Of 254 test rows: another processor rounds otherwise, and a row near the border changes sides."""


@pytest.fixture
def hearts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(shared_data("heart-disease").parent))


@pytest.fixture
def fashion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_DATA", str(shared_data("fashion-mnist").parent))


@pytest.fixture(autouse=True)
def unfinished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of its own for what is not finished: the real one is somebody's work."""
    monkeypatch.setattr(kept, "UNFINISHED", tmp_path / "unfinished")
    return tmp_path / "unfinished"


def kept_heart(method: str, start: str = "PyTorch", seed: int = 42) -> dict[str, int]:
    wanted = {"method": method, "start": start, "seed": seed}
    (found,) = [one["right"] for one in HEARTS if one | wanted == one]
    return found


def test_the_page_is_what_the_results_say() -> None:
    assert page.FILE.read_text(encoding="utf-8") == page.page()


def test_every_method_has_five_seeds_from_both_kinds_of_first_weights() -> None:
    wanted = [
        (method, start, seed) for method in fed_heart.METHODS for start in fed_heart.STARTS for seed in range(42, 47)
    ]
    assert [(one["method"], one["start"], one["seed"]) for one in HEARTS] == wanted


def test_results_are_of_todays_plans() -> None:
    for one in HEARTS:
        assert one["digest"] == fed_heart.plan_of(one["method"], one["seed"]).digest(), one["method"]
    for one in ROUNDS:
        assert one["digest"] == fedavg.setting_of(one).plan(place_of(one["rate"])).digest(), fedavg.line(one)


def test_results_are_in_order_and_none_is_there_twice() -> None:
    keys = [(fedavg.SETTINGS.index(fedavg.setting_of(one)), one["rate"]) for one in ROUNDS]
    assert keys == sorted(set(keys))


def test_the_papers_settings_are_all_there() -> None:
    """Two models, two partitions, C of 0.1 and 1, E of 1 and 5, B of 10 and ∞."""
    assert len(set(fedavg.SETTINGS)) == 32
    whole = fedavg.Setting("cnn", "shards", 1.0, 5, None).plan(-3)
    assert (whole.partition.kind, whole.algorithm.select.cohort_size(100)) == ("shards", 100)
    assert (whole.algorithm.local.epochs, whole.algorithm.local.batch_size) == (5, None)
    assert whole.algorithm.local.optimizer.learning_rate == 0.1


def test_both_models_of_the_fedavg_paper_have_the_same_data() -> None:
    one, other = load_plan("papers/fedavg-2nn"), load_plan("papers/fedavg-cnn")
    for field in ("data", "partition", "holdout", "scaling"):
        assert getattr(one, field) == getattr(other, field)
    assert one.model.parameters((28, 28, 1), 10) == 199_210
    assert other.model.parameters((28, 28, 1), 10) == 1_663_370


@pytest.mark.parametrize("name", sorted(set(fed_heart.METHODS.values())))
def test_the_plans_of_fed_heart_differ_in_the_algorithm_alone(name: str) -> None:
    ours, plain = load_plan(name), load_plan("papers/fed-heart")
    for field in ("data", "partition", "holdout", "scaling", "model", "loss"):
        assert getattr(ours, field) == getattr(plain, field)


@pytest.mark.parametrize("name", sorted(set(fed_heart.METHODS.values())))
def test_a_plan_of_fed_heart_fits_its_data(hearts, name: str) -> None:
    plan = load_plan(name)
    federation = plan.federation()
    assert plan.model.parameters(federation.inputs, federation.classes) == 14
    assert (len(federation.clients), len(federation.test)) == (4, 254)


@pytest.mark.parametrize("partition", fedavg.PARTITIONS)
def test_a_plan_of_the_fedavg_paper_fits_its_data(fashion, partition: str) -> None:
    federation = fedavg.Setting("2nn", partition, 0.1, 1, 10).plan(-3).federation()
    rows = [len(client.train) for client in federation.clients.values()]
    classes = [len(np.unique(client.train.y)) for client in federation.clients.values()]
    assert (len(rows), len(federation.test)) == (100, fedavg.TEST_ROWS)
    assert 590 < min(rows) <= max(rows) == 599
    assert (max(classes) <= 4) == (partition == "shards")


@pytest.mark.parametrize("method", fed_heart.METHODS)
def test_accuracy_over_all_rows_is_that_of_flamby(method: str) -> None:
    """Means of five seeds, from PyTorch's first weights, to within four points: both sides vary by one to two."""
    ours = [sum(kept_heart(method, "PyTorch", seed).values()) for seed in fed_heart.SEEDS]
    theirs = [sum(right.values()) for right in published.RIGHT[method]]
    assert abs(sum(ours) - sum(theirs)) / (5 * sum(published.TEST_ROWS.values())) < 0.04


@pytest.mark.parametrize(("one", "other"), [("FedProx", "FedAvg"), ("FedAdagrad", "FedYogi")])
def test_methods_that_get_the_same_rows_right_at_flamby_do_so_here(one: str, other: str) -> None:
    """μ = 0.01 is next to nothing; and Yogi whose v only grows is Adagrad with a rate larger by 1 / √(1 - β₂)."""
    assert published.RIGHT[one] == published.RIGHT[other]
    for start in fed_heart.STARTS:
        for seed in fed_heart.SEEDS:
            assert kept_heart(one, start, seed) == kept_heart(other, start, seed)


@pytest.mark.parametrize("method", ["FedAvg", "SCAFFOLD", "FedYogi", "local"])
def test_fed_heart_comes_out_again(hearts, method: str) -> None:
    right = fed_heart.run(method, 42, "PyTorch")["right"]
    assert sum(abs(right[centre] - kept_heart(method)[centre]) for centre in published.CENTRES) <= CLOSE


@pytest.mark.slow
@pytest.mark.parametrize(("model", "rounds"), [("2nn", 3), ("cnn", 1)])
def test_first_rounds_of_a_model_come_out_again(fashion, model: str, rounds: int) -> None:
    setting = fedavg.Setting(model, "iid", 0.1, 1, 10)
    (before,) = [one for one in ROUNDS if fedavg.setting_of(one) == setting and place_of(one["rate"]) == setting.start]
    now = fedavg.run(setting, Wanted(setting.start, rounds), float("inf"))
    assert len(now["right"]) == rounds + 1
    assert now["right"] == pytest.approx(before["right"][: rounds + 1], abs=0.02 * fedavg.TEST_ROWS)
    assert now["right"][-1] > 0.5 * fedavg.TEST_ROWS


def test_a_rate_that_is_much_too_large_is_told_as_such(fashion) -> None:
    now = fedavg.run(fedavg.SETTINGS[0], Wanted(9, 3), float("inf"))
    assert now["diverged"]
    assert fedavg.line(now).endswith("diverged in 0 rounds")


def test_a_curve_that_was_cut_short_goes_on_where_it_was(fashion, unfinished: Path) -> None:
    setting, wanted = fedavg.SETTINGS[0], Wanted(-3, 3)
    whole = fedavg.run(setting, wanted, float("inf"))["right"]
    assert list(unfinished.iterdir()) == []
    assert [fedavg.run(setting, wanted, 0)["right"] for _ in range(2)] == [whole[:1], whole[:2]]
    assert len(list(unfinished.iterdir())) == 1
    assert fedavg.run(setting, wanted, float("inf"))["right"] == whole
    assert list(unfinished.iterdir()) == []


def test_a_longer_curve_is_not_replaced_by_a_shorter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fedavg, "FILE", tmp_path / "some.jsonl")
    long = ROUNDS[0]
    for record in (long, long | {"right": long["right"][:2]}):
        fedavg._keep(record)
    assert kept.read(fedavg.FILE) == [long]
    other = long | {"right": long["right"][:2], "digest": "of another plan"}
    fedavg._keep(other)
    assert kept.read(fedavg.FILE) == [other]


def test_days_of_results_are_the_first_and_the_last() -> None:
    made = ["2026-11-24, keras 1", "2026-11-22, keras 1", "2026-11-23, keras 1", "2026-11-25, keras 2"]
    assert kept.makings({"made": one} for one in made) == "2026-11-22 to 2026-11-24, keras 1; 2026-11-25, keras 2"


def test_without_data_the_command_says_so_in_a_line() -> None:
    without = {name: value for name, value in os.environ.items() if name != "ROUNDHOUSE_DATA"}
    command = [sys.executable, "-m", "benchmarks.reproductions", "fed-heart"]
    done = subprocess.run(command, env=without, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("data.csv.path: the environment has no ROUNDHOUSE_DATA; set it")


def test_what_is_kept_replaces_what_was_kept(tmp_path: Path) -> None:
    file = tmp_path / "some.jsonl"
    assert kept.read(file) == []
    kept.write(file, [{"a": 1}, {"b": "∞"}])
    kept.write(file, [{"b": "∞"}])
    assert kept.read(file) == [{"b": "∞"}]
    assert [path.name for path in tmp_path.iterdir()] == ["some.jsonl"]
