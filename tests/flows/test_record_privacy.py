"""Trainings that hide records: every client pays into a ledger of its own, and takes no part once it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from configs import environment
from configs.plan import Plan
from federated.errors import InputError, TrainingError
from federated.onion import Trained
from federated.privacy.accounting import SelfComposed, epsilon
from flows.train import train
from tasks import round_tasks
from tasks.ledger import BudgetExceeded, PrivacyLedger
from tasks.replaying import replay
from tasks.signed_log import LedgerError
from tasks.signing import signer, trusted_keys
from tasks.summary import Summary
from tasks.verifying import verify
from tasks.watching import watched_by
from tests.flows.test_train import Interrupter, client, run_of, small_plan, versions_of

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

DELTA = 1e-4
SITES = {"north": 60, "south": 60, "west coast": 24}
"""Rows to train on, by site."""


def table(folder: Path) -> str:
    """Three sites, one of them with a name that is no file's."""
    lines = ["site,a,b,y"]
    for place, (site, rows) in enumerate(SITES.items()):
        lines += [f"{site},{(row * 7 + place) % 11},{row % 5},{(row + place) % 2}" for row in range(rows)]
    path = folder / "sites.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def plan_of(folder: Path, *overrides: str, budget: float | str = "null", seeded: bool = False) -> Plan:
    """Three rounds of two steps each."""
    how = f"{{norm: 1.0, noise_multiplier: 1.2, seeded: {str(seeded).lower()}}}"
    return small_plan(
        "name=sites",
        f"data={{kind: csv, path: {table(folder)}, target: y, client: site}}",
        "partition={kind: natural}",
        "scaling={kind: divide, by: 10}",
        "model={kind: logistic}",
        "holdout={test: 0.1, validation: 0.1, client_test: 0.1}",
        "quorum=1",
        "baselines=false",
        "stop=null",
        "promotion.gates=[]",
        f"privacy={{population: sites, delta: {DELTA}, budget: {budget}}}",
        "algorithm.select={kind: all}",
        "algorithm.transforms=[]",
        "algorithm.rule={kind: weighted_mean}",
        f"algorithm.local={{steps: 2, batch_size: 8, optimizer: {{kind: sgd, learning_rate: 0.1}}, dp_sgd: {how}}}",
        *overrides,
    )


def ledger(site: str, folder: str = "sites", simulated: bool = False) -> PrivacyLedger:
    path = environment.privacy_ledger(f"{folder}/{quote(site, safe='')}", simulated)
    return PrivacyLedger(path, None, signer(), trusted_keys())


def cost(plan: Plan, site: str, rounds: int) -> float:
    rows = len(plan.federation().clients[site].train)
    return epsilon([SelfComposed(plan.algorithm.local.release(rows), 2 * rounds)], DELTA).best


def history(summary: Summary, name: str) -> list[float]:
    points = client().get_metric_history(summary.run_id, name)
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def test_every_client_pays_its_own_way_and_the_largest_epsilon_is_told(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    summary = train(plan)
    for site in SITES:
        statement = ledger(site).statement()
        assert (statement.terms.unit, statement.terms.population) == ("record", f"sites/{site}")
        rows = len(plan.federation().clients[site].train)
        assert statement.spent == (SelfComposed(plan.algorithm.local.release(rows), 6),)
    smallest = [cost(plan, "west coast", rounds) for rounds in (1, 2, 3, 4)]
    assert history(summary, "epsilon") == pytest.approx(smallest[:3], rel=1e-3)
    assert history(summary, "epsilon_next") == pytest.approx(smallest[1:], rel=1e-3)
    assert history(summary, "privacy_clients_left") == [3, 3, 3]
    assert "train_loss" not in run_of(summary).data.metrics
    tags = versions_of("sites")[-1].tags
    assert tags["epsilon_means"] == (
        "one record of a client, or zero gradients in its place; delta 0.0001; Poisson batches of 8"
    )
    assert tags["privacy_ledger"].count("entries to") == 3
    assert verify("sites/3", trusted_keys()).faults == []
    for version in (1, 2, 3):  # what the server made of what it got
        found = replay(f"sites/{version}", trusted_keys())
        assert (found.agrees, found.since, found.noise) == (True, version - 1, None)


def without(site: str, folder: Path) -> str:
    """The option that reads a table from which a site has gone."""
    kept = [line for line in Path(table(folder)).read_text().splitlines() if not line.startswith(f"{site},")]
    (folder / "fewer.csv").write_text("\n".join(kept) + "\n")
    return f"data.path={folder / 'fewer.csv'}"


def test_a_client_that_has_left_counts_on_and_its_ledger_may_not_go(tmp_path: Path) -> None:
    first = train(plan_of(tmp_path))
    left = plan_of(tmp_path, without("west coast", tmp_path), "start={kind: version, version: 3}", "rounds=1")
    small = history(first, "epsilon")[-1]
    assert history(train(left), "epsilon") == pytest.approx([small])
    assert history(train(left), "epsilon_next") == pytest.approx([small])
    assert versions_of("sites")[-1].tags["epsilon"] == versions_of("sites")[2].tags["epsilon"]
    environment.privacy_ledger(f"sites/{quote('west coast', safe='')}").unlink()
    paid = ledger("north").end
    with pytest.raises(LedgerError, match=r"west%20coast\.db: records of rounds have seen .* removed or set back"):
        train(left)
    assert ledger("north").end == paid


def test_a_client_that_cannot_pay_stays_out_and_the_training_ends_when_nobody_can(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    small, large = (cost(plan, site, 2) for site in ("west coast", "north"))
    budget = (cost(plan, "west coast", 1) + small) / 2
    assert large < budget < small
    plan = plan_of(tmp_path, "rounds=50", budget=budget)
    summary = train(plan)
    assert summary.stop_reason == "privacy budget"
    cohorts = [version.tags["cohort"].split(",") for version in versions_of("sites")]
    assert cohorts[0] == ["north", "south", "west coast"]
    assert cohorts[1] == ["north", "south"]
    assert not [cohort for cohort in cohorts[1:] if "west coast" in cohort]
    for site in SITES:
        assert ledger(site).statement().epsilon.best <= budget
    with pytest.raises(
        BudgetExceeded, match=r"^privacy budget: no client can pay for round 1 \(one record of a client"
    ):
        train(plan, run_key="again")
    assert len(versions_of("sites")) == len(cohorts)


def test_a_training_ends_when_fewer_clients_can_pay_than_a_round_needs_and_another_does_not_begin(
    tmp_path: Path,
) -> None:
    once, twice = (cost(plan_of(tmp_path), "west coast", rounds) for rounds in (1, 2))
    plan = plan_of(tmp_path, "rounds=12", "quorum=3", budget=(once + twice) / 2)
    summary = train(plan)
    assert (summary.stop_reason, summary.rounds) == ("privacy budget", 1)
    assert [version.tags["cohort"] for version in versions_of("sites")] == ["north,south,west coast"]
    assert summary.model_version == "1"
    with pytest.raises(BudgetExceeded, match=r"^privacy budget: 2 of 3 clients that are needed can pay for round 1 "):
        train(plan, run_key="again")
    assert len(versions_of("sites")) == 1


def test_a_training_that_goes_on_and_can_pay_for_nothing_more_ends_cleanly(tmp_path: Path) -> None:
    twice, thrice = (cost(plan_of(tmp_path), "west coast", rounds) for rounds in (2, 3))
    plan = plan_of(tmp_path, "rounds=12", "quorum=3", budget=(twice + thrice) / 2)
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    summary = train(plan, run_key="night")
    assert (summary.stop_reason, summary.rounds) == ("privacy budget", 2)


def test_a_round_that_broke_off_is_paid_for_again_unless_a_seed_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_half = round_tasks.server_half

    def breaking(*given: object) -> None:
        raise TrainingError("the power went out")

    plans = {
        "real": plan_of(tmp_path, "rounds=1"),
        "seeded": plan_of(tmp_path, "rounds=1", "simulation=true", seeded=True),
    }
    for run_key, plan in plans.items():
        monkeypatch.setattr(round_tasks, "server_half", breaking)
        with pytest.raises(TrainingError, match="the power went out"):
            train(plan, run_key=run_key)
        monkeypatch.setattr(round_tasks, "server_half", server_half)
        train(plan, run_key=run_key)
    assert ledger("north").attempts("sites-real", 1) == 2
    assert ledger("north", "sites-seeded", simulated=True).attempts("sites-seeded", 1) == 1


def test_a_client_that_drops_out_after_it_has_paid_has_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local_updates = round_tasks.local_updates

    def dropping(*given: object) -> Iterator[Trained]:
        for one in local_updates(*given):
            lost = one.update.client == "south"
            yield one._replace(update=replace(one.update, delta=one.update.delta * np.nan)) if lost else one

    monkeypatch.setattr(round_tasks, "local_updates", dropping)
    plan = plan_of(tmp_path, "rounds=2")
    summary = train(plan)
    assert history(summary, "left_out") == [1, 1]
    for site in SITES:
        release = plan.algorithm.local.release(len(plan.federation().clients[site].train))
        assert ledger(site).statement().spent == (SelfComposed(release, 4),)


def test_a_training_goes_on_only_with_the_ledgers_that_it_has_seen(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "rounds=4")
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    path = environment.privacy_ledger("sites/west%20coast")
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(LedgerError, match=r"west%20coast\.db: records of rounds have seen"):
        train(plan, run_key="night")
    assert not path.exists()
    path.write_bytes(whole)
    assert train(plan, run_key="night").rounds == 4


def test_after_a_restart_the_largest_epsilon_is_still_that_of_whoever_paid_most(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "rounds=1")
    smallest = train(plan).metrics  # everybody has paid for a round
    assert smallest is not None
    others = plan_of(tmp_path, "rounds=1", "algorithm.select={kind: poisson, rate: 0.0001}")
    assert history(train(others), "epsilon") == pytest.approx([cost(plan, "west coast", 1)], rel=1e-3)


def test_a_population_that_pays_by_record_does_not_pay_by_client(tmp_path: Path) -> None:
    train(plan_of(tmp_path, "rounds=1"))
    by_client = [
        "algorithm.local={steps: 2, batch_size: 8, optimizer: {kind: sgd, learning_rate: 0.1}}",
        "algorithm.transforms=[{kind: central_gaussian, norm: 1.0, noise_multiplier: 1.0}]",
        "algorithm.rule={kind: fixed_mean, expected: 3}",
    ]
    with pytest.raises(InputError, match=r"sites pays by record, see .*; the plan would pay by client, and neither"):
        train(plan_of(tmp_path, *by_client))
    assert train(plan_of(tmp_path, "rounds=1", "simulation=true", *by_client)).rounds == 1


def test_a_seeded_simulation_is_the_same_twice_and_is_replayed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "rounds=2", "simulation=true", seeded=True)
    one, other = train(plan), train(plan)
    assert one.weights_sha256 == other.weights_sha256
    assert replay("sites@latest", trusted_keys()).agrees
    assert train(plan_of(tmp_path, "rounds=2")).weights_sha256 != one.weights_sha256
