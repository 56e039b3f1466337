"""Which versions a policy keeps: each against a few words of plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from configs.loading import load_plan, shipped
from configs.retention import KeepAll, KeepBest, KeepEvery, KeepPromoted, Kept, Retention
from federated.errors import PlanError

POLICIES: tuple[Retention, ...] = (
    KeepAll(),
    KeepEvery(rounds=1),
    KeepEvery(rounds=3),
    KeepEvery(rounds=50),
    KeepBest(),
    KeepBest(metric="accuracy", versions=3),
    KeepBest(metric="mae", versions=2),
    KeepPromoted(),
)


def registry(seed: int) -> list[Kept]:
    """Versions of three trainings, as they are registered when two run at once; not every round was measured."""
    rng = np.random.default_rng(seed)
    runs = rng.permutation(["one"] * 10 + ["two"] * 7 + ["three"] * 2)
    done = dict.fromkeys(runs, 0)
    found = []
    for number, run in enumerate(runs, start=1):
        done[run] += 1
        values = np.round(rng.uniform(size=3), 1)  # ties
        metrics = {name: float(value) for name, value in zip(("loss", "accuracy", "mae"), values, strict=True)}
        found.append(Kept(str(number), str(run), done[run], metrics if rng.uniform() < 0.9 else {}))
    return found


def of_run(versions: Sequence[Kept], run: str) -> list[Kept]:
    return [kept for kept in versions if kept.run_id == run]


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_a_policy_keeps_versions_that_there_are_and_asks_for_no_order(policy: Retention) -> None:
    versions = registry(0)
    kept = policy.keeps(versions)
    assert kept <= {version.version for version in versions}
    assert policy.keeps(versions[::-1]) == policy.keeps(sorted(versions)) == kept
    assert policy.keeps([]) == set()


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_no_training_changes_what_is_kept_of_another(policy: Retention) -> None:
    versions = registry(1)
    alone = [policy.keeps(of_run(versions, run)) for run in ("one", "two", "three")]
    assert policy.keeps(versions) == set().union(*alone)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_what_is_kept_is_kept_again_when_the_rest_is_gone(policy: Retention) -> None:
    versions = registry(2)
    kept = policy.keeps(versions)
    assert policy.keeps([version for version in versions if version.version in kept]) == kept


def test_all_keeps_all_and_promoted_none_by_itself() -> None:
    versions = registry(3)
    assert KeepAll().keeps(versions) == {kept.version for kept in versions}
    assert KeepPromoted().keeps(versions) == set()


@pytest.mark.parametrize("rounds", range(1, 12))
def test_every_keeps_the_rounds_that_it_divides(rounds: int) -> None:
    versions = registry(4)
    multiples = range(rounds, 100, rounds)
    assert KeepEvery(rounds=rounds).keeps(versions) == {kept.version for kept in versions if kept.round in multiples}


def test_every_keeps_the_next_version_where_a_round_is_none() -> None:
    versions = [Kept(str(number), "run", number, {}) for number in range(3, 40, 3)]
    assert KeepEvery(rounds=10).keeps(versions) == {"12", "21", "30"}
    assert KeepEvery(rounds=100).keeps(versions) == set()
    assert len(KeepEvery(rounds=2).keeps(versions)) == len(versions)


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("mae", min), ("accuracy", max)])
@pytest.mark.parametrize("seed", range(5))
def test_best_keeps_the_best_of_each_training(metric: str, best, seed: int) -> None:
    versions = registry(seed)
    kept = KeepBest(metric=metric).keeps(versions)  # type: ignore[arg-type]
    for run in ("one", "two", "three"):
        measured = [version for version in of_run(versions, run) if metric in version.metrics]
        (chosen,) = [version for version in measured if version.version in kept]
        assert chosen.metrics[metric] == best(version.metrics[metric] for version in measured)


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_best_keeps_as_many_as_it_says_and_none_better_is_lost(count: int) -> None:
    versions = registry(5)
    kept = KeepBest(versions=count).keeps(versions)
    for run in ("one", "two", "three"):
        measured = [version for version in of_run(versions, run) if "loss" in version.metrics]
        ours = [version.metrics["loss"] for version in measured if version.version in kept]
        lost = [version.metrics["loss"] for version in measured if version.version not in kept]
        assert len(ours) == min(count, len(measured))
        assert max(ours) <= min(lost, default=math.inf)


def test_of_equals_the_first_is_kept() -> None:
    versions = [Kept(number, "run", int(number), {"loss": 0.5}) for number in ("9", "10", "11")]
    assert KeepBest().keeps(versions) == {"9"}


@pytest.mark.parametrize(("metric", "best"), [("loss", 0.5), ("accuracy", 0.6)])
def test_a_round_that_diverged_is_never_the_best(metric: str, best: float) -> None:
    for values in itertools.permutations([math.nan, 0.5, 0.6]):
        versions = [Kept(str(at), "run", at, {metric: value}) for at, value in enumerate(values, start=1)]
        (kept,) = KeepBest(metric=metric).keeps(versions)  # type: ignore[arg-type]
        assert values[int(kept) - 1] == best, values


@pytest.mark.parametrize("name", shipped())
def test_a_plan_that_does_not_say_keeps_all(name: str) -> None:
    assert load_plan(name).retention == KeepAll()


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("{kind: none}", "retention: unknown kind 'none'; expected one of 'all', 'every', 'best', 'promoted'"),
        ("{kind: every}", "retention.every.rounds: is required"),
        ("{kind: every, rounds: 0}", "retention.every.rounds: input should be greater than or equal to 1, got 0"),
        ("{kind: best, versions: 0}", "retention.best.versions: input should be greater than or equal to 1, got 0"),
        ("{kind: best, metric: auc}", "retention.best.metric: "),
        ("{kind: promoted, rounds: 2}", "retention.promoted.rounds: unknown field"),
    ],
)
def test_what_names_no_policy_is_refused_at_its_place(written: str, reason: str) -> None:
    with pytest.raises(PlanError) as refusal:
        load_plan("quickstart", [f"retention={written}"])
    assert str(refusal.value).startswith(reason)
