"""Trainings with noise: every round is paid for before it begins, whatever crashes, and the budget ends them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import environment
from configs.plan import Plan
from federated.errors import PlanError, TrainingError
from federated.privacy.accounting import SelfComposed, affordable, epsilon
from flows.promote import promote
from flows.retain import retain
from flows.train import train
from tasks import round_tasks
from tasks.ledger import BudgetExceeded, PrivacyLedger
from tasks.promoting import Promoted
from tasks.replaying import Span, replay
from tasks.signed_log import LedgerError
from tasks.signing import signer, trusted_keys
from tasks.summary import Summary
from tasks.verifying import verify
from tasks.versions import STATE
from tasks.watching import watched_by
from tests.flows.test_train import Interrupter, client, run_of, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

SECRET = "{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5}"
SEEDED = "{kind: central_gaussian, norm: 0.5, noise_multiplier: 1.5, seeded: true}"
ADAPTIVE = "{kind: adaptive_gaussian, norm: 0.5, noise_multiplier: 0.1}"
DELTA = 1e-5
OTHERS = f"privacy={{population: others, delta: {DELTA}, budget: null}}"
BARE = ("privacy=null", "algorithm.transforms=[]")


def noised(*overrides: str, noise: str = SECRET, budget: float | str = "null") -> Plan:
    """Digits over six clients, half of whom are in a round."""
    return small_plan(
        "name=wards",
        "scaling={kind: divide, by: 16}",
        "quorum=1",
        "baselines=false",
        "stop=null",
        f"privacy={{population: wards, delta: {DELTA}, budget: {budget}}}",
        "algorithm.select={kind: poisson, rate: 0.5}",
        f"algorithm.transforms=[{noise}]",
        "algorithm.rule={kind: fixed_mean, expected: 3}",
        *overrides,
    )


def cost(plan: Plan, rounds: int) -> float:
    release = plan.algorithm.release
    assert release is not None
    return epsilon([SelfComposed(release, rounds)], DELTA).best


def between(plan: Plan, rounds: int) -> float:
    """A budget for so many rounds, and not one more."""
    return (cost(plan, rounds) + cost(plan, rounds + 1)) / 2


def ledger(path: Path | None = None) -> PrivacyLedger:
    return PrivacyLedger(path or environment.privacy_ledger("wards"), None, signer(), trusted_keys())


def history(summary: Summary, name: str) -> list[float]:
    points = client().get_metric_history(summary.run_id, name)
    return [point.value for point in sorted(points, key=lambda point: point.step)]


def test_every_round_logs_what_is_spent_and_every_version_says_it() -> None:
    plan = noised(budget=50)
    summary = train(plan)
    release = plan.algorithm.release
    assert release is not None
    assert history(summary, "epsilon") == pytest.approx([cost(plan, rounds) for rounds in (1, 2, 3)], abs=1e-3)
    assert history(summary, "epsilon_next") == pytest.approx([cost(plan, rounds) for rounds in (2, 3, 4)], abs=1e-3)
    most = affordable(release, 50, DELTA)
    assert history(summary, "privacy_rounds_left") == [most - 1, most - 2, most - 3]
    for number, version in enumerate(versions_of("wards"), 1):
        assert float(version.tags["epsilon"]) == pytest.approx(cost(plan, number), abs=1e-3)
        assert version.tags["epsilon_means"] == "one client, added or removed; delta 1e-05; Poisson sampling at 0.5"
        assert version.tags["privacy_population"] == "wards"
        assert float(version.tags["epsilon_next"]) == pytest.approx(cost(plan, number + 1), abs=1e-3)
        assert version.tags["privacy_rounds_left"] == str(most - number)
        assert verify(f"wards/{version.version}", trusted_keys()).faults == []
    assert versions_of("wards")[-1].tags["privacy_ledger"] == f"7 entries to {ledger().statement().head[:16]}"
    assert summary.privacy.startswith(f"epsilon {cost(plan, 3):.4f} (one client")
    run = run_of(summary)
    assert run.data.tags["noise"] == "from the operating system"
    assert run.data.tags["epsilon_means"] == version.tags["epsilon_means"]
    pictures = {found.path for found in client().list_artifacts(summary.run_id, "figures")}
    assert "figures/epsilon-by-round.png" in pictures


def test_a_budget_that_is_met_ends_the_training_with_its_last_model_registered() -> None:
    plan = noised("rounds=9", budget=between(noised(), 2))
    summary = train(plan)
    assert (summary.rounds, summary.stop_reason) == (2, "privacy budget")
    assert [version.tags["round"] for version in versions_of("wards")] == ["1", "2"]
    assert summary.model_version == str(versions_of("wards")[-1].version)
    assert run_of(summary).data.tags["stop_reason"] == "privacy budget"
    assert run_of(summary).info.status == "FINISHED"
    assert ledger().statement().epsilon.best <= plan.privacy.budget  # type: ignore[union-attr]


def test_what_yesterdays_training_spent_counts_today_and_one_without_a_round_left_is_refused() -> None:
    plan = noised("rounds=2", budget=between(noised(), 3))
    assert train(plan).stop_reason == "rounds"
    assert train(plan).stop_reason == "privacy budget"
    assert len(versions_of("wards")) == 3
    with pytest.raises(BudgetExceeded, match=r"^privacy budget of wards: epsilon .* more than .*unit client"):
        train(plan, run_key="too-late")
    assert len(versions_of("wards")) == 3
    assert not (Path(environment.checkpoints()) / "wards" / "too-late" / "records").exists()
    assert ledger().statement().spent == (SelfComposed(plan.algorithm.release, 3),)  # type: ignore[arg-type]


@pytest.fixture
def breaks_off_in_round_2(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After its noise was drawn, once."""
    server_half, broken = round_tasks.server_half, list[int]()

    def breaking(algorithm: Any, state: Any, *rest: Any) -> Any:
        done = server_half(algorithm, state, *rest)
        if state.round == 1 and not broken:
            broken.append(1)
            raise TrainingError("the power went out")
        return done

    monkeypatch.setattr(round_tasks, "server_half", breaking)
    return None


@pytest.mark.usefixtures("breaks_off_in_round_2")
def test_a_round_that_broke_off_is_drawn_and_paid_for_again() -> None:
    plan = noised()
    with pytest.raises(TrainingError, match="the power went out"):
        train(plan, run_key="night")
    assert ledger().statement().spent == (SelfComposed(plan.algorithm.release, 2),)  # type: ignore[arg-type]
    summary = train(plan, run_key="night")
    assert ledger().statement().spent == (SelfComposed(plan.algorithm.release, 4),)  # type: ignore[arg-type]
    assert ledger().attempts("wards-night", 2) == 2
    assert history(summary, "epsilon") == pytest.approx([cost(plan, rounds) for rounds in (1, 3, 4)], abs=1e-3)


@pytest.mark.usefixtures("breaks_off_in_round_2")
def test_a_budget_that_a_crash_has_eaten_ends_the_training_and_is_never_exceeded() -> None:
    plan = noised(budget=between(noised(), 2))
    with pytest.raises(TrainingError, match="the power went out"):
        train(plan, run_key="night")
    summary = train(plan, run_key="night")
    assert (summary.rounds, summary.stop_reason) == (1, "privacy budget")
    assert ledger().statement().epsilon.best <= plan.privacy.budget  # type: ignore[union-attr]


def simulated(*overrides: str) -> Plan:
    return noised("simulation=true", *overrides, noise=SEEDED)


@pytest.mark.usefixtures("breaks_off_in_round_2")
def test_noise_that_a_seed_repeats_is_paid_for_once_and_comes_to_the_same_weights() -> None:
    plan = simulated()
    with pytest.raises(TrainingError, match="the power went out"):
        train(plan, run_key="broken")
    broken, whole, blocks = (
        train(plan, run_key="broken"),
        train(plan, run_key="whole"),
        train(simulated("commit_every=3"), run_key="blocks"),
    )
    assert broken.weights_sha256 == whole.weights_sha256 == blocks.weights_sha256
    for summary, run_key in ((broken, "broken"), (whole, "whole"), (blocks, "blocks")):
        path = environment.privacy_ledger(f"wards-{run_key}", simulated=True)
        assert ledger(path).statement().spent == (SelfComposed(plan.algorithm.release, 3),)  # type: ignore[arg-type]
        assert history(summary, "epsilon") == pytest.approx([cost(plan, rounds) for rounds in (1, 2, 3)], abs=1e-3)
        assert run_of(summary).data.tags["noise"] == "from the seed: a simulation"
    assert not environment.privacy_ledger("wards").exists()
    assert replay("wards@latest", trusted_keys()).agrees


@pytest.mark.parametrize(
    ("noise", "multiplier"),
    [(SECRET, 1.5), pytest.param(ADAPTIVE, 0.1, marks=pytest.mark.slow)],
    ids=["fixed", "adaptive"],
)
def test_a_training_with_secret_noise_goes_on_after_ctrl_c_and_is_replayed_from_what_it_released(
    noise: str, multiplier: float
) -> None:
    plan = noised("rounds=4", noise=noise)
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    first, second = (version.tags["weights_sha256"] for version in versions_of("wards"))
    summary = train(plan, run_key="night")
    assert [version.tags["weights_sha256"] for version in versions_of("wards")][:2] == [first, second]
    for version in versions_of("wards"):
        found = replay(f"wards/{version.version}", trusted_keys())
        assert (found.agrees, found.differing, found.since) == (True, (), found.round - 1)
        assert found.noise == pytest.approx(multiplier, rel=0.15)
    assert found.computed == summary.weights_sha256
    assert not found._replace(noise=0.1 * multiplier).agrees
    assert not found._replace(noise=2.0 * multiplier).agrees
    assert found._replace(claimed=Span(0.0, 9.0)).agrees


CORRELATED = "{kind: correlated_gaussian, norm: 0.5, noise_multiplier: 4, rounds: 4, participations: 4}"


@pytest.mark.parametrize(
    "noise", [pytest.param(SECRET, marks=pytest.mark.slow), CORRELATED], ids=["fixed", "correlated"]
)
def test_a_training_that_cannot_come_to_its_last_round_again_pays_for_nothing_more(noise: str) -> None:
    plan = noised("rounds=4", noise=noise)
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    state, copy = lost(2)
    kept, entries = state.read_bytes(), ledger().statement().entries
    for path in (state, copy):
        path.unlink()
    for _ in range(2):
        with pytest.raises(
            TrainingError,
            match=r"^run key night: round 2 is recorded, and its noise cannot be drawn again, but of what it left "
            r"\S+states/000002-\S+ is missing: restore that from a back-up, or take another key$",
        ):
            train(plan, run_key="night")
    assert ledger().statement().entries == entries
    state.write_bytes(kept)
    assert train(plan, run_key="night").rounds == 4


def test_noise_that_a_seed_repeats_is_drawn_again_where_a_state_is_lost() -> None:
    plan = simulated("rounds=4")
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    for path in lost(2):
        path.unlink()
    assert train(plan, run_key="night").weights_sha256 == train(plan, run_key="morning").weights_sha256


def lost(round: int) -> tuple[Path, Path]:
    """The state after a round, and MLflow's copy of it."""
    (state,) = (Path(environment.checkpoints()) / "wards" / "night" / "states").glob(f"{round:06d}-*")
    return state, stored_file(str(round), STATE, "wards")


def test_a_training_goes_on_only_with_a_ledger_that_has_what_it_has_seen_of_it() -> None:
    plan = noised("rounds=4")
    with watched_by(Interrupter()):
        train(plan, run_key="night", return_state=True)
    path = environment.privacy_ledger("wards")
    whole = path.read_bytes()
    path.unlink()
    for begun_anew in (False, True):  # it is removed; then others have begun it anew, and paid as often
        with pytest.raises(LedgerError, match=r"wards.db: records of rounds have seen \d+ entries of it, up to"):
            train(plan, run_key="night")
        assert path.exists() == begun_anew
        train(noised("rounds=4", "name=others"))
    assert train(plan, run_key="morning").rounds == 4, "another training has seen nothing of it"
    path.write_bytes(whole)
    assert train(plan, run_key="night").rounds == 4
    assert ledger().attempts("wards-night", 4) == 1


def test_an_epsilon_of_several_kinds_of_noise_says_so_wherever_it_stands() -> None:
    sent = "{kind: local_gaussian, norm: 0.5, noise_multiplier: 4.0}"
    summary = train(noised("rounds=1", "algorithm.rule={kind: mean}", noise=sent))
    assert summary.privacy.endswith("zero updates in its place; delta 1e-05; no sampling: who takes part is known)")
    before = "all that one client sends, or zero updates in its place; no sampling"
    summary = train(noised("rounds=1"))
    means = (
        "one client, added or removed; delta 1e-05; Poisson sampling at 0.5; and of what was paid beside it: " + before
    )
    assert summary.privacy.endswith(f" ({means})")
    assert versions_of("wards")[-1].tags["epsilon_means"] == run_of(summary).data.tags["epsilon_means"] == means
    said = ledger().statement().as_json()
    assert [line["relation"] for line in said["spent"]] == ["zero_out", "add_or_remove_one"]
    assert (said["relation"], said["sampling"]) == ("zero_out", "poisson")


def test_a_gate_on_epsilon_lets_through_what_was_paid_for_and_no_simulation_and_no_other_delta() -> None:
    def promoted(version: int, delta: float = DELTA) -> Promoted:
        gates = f"promotion.gates=[{{kind: epsilon, at_most: 50, unit: client, delta: {delta}}}]"
        return promote(noised(gates), version=str(version), return_state=True).result()

    train(noised("rounds=1"))
    train(simulated("rounds=1"))
    outcome = promoted(1)
    assert outcome.promoted
    (verdict,) = outcome.verdicts
    assert verdict["measured"].endswith(" of a client, delta 1e-05, add_or_remove_one, sampling poisson")
    assert promoted(2).reasons == ["epsilon: the candidate is of a simulation, whose noise protects nobody"]
    assert promoted(1, 1e-6).reasons == ["epsilon: epsilon is at delta 1e-05, the gate asks for 1e-06"]


@pytest.mark.slow
def test_two_trainings_of_one_plan_draw_other_noise_and_other_cohorts() -> None:
    one, other = train(noised()), train(noised())
    assert one.weights_sha256 != other.weights_sha256
    cohorts = [version.tags["cohort"] for version in versions_of("wards")]
    assert len(set(cohorts)) > 3


def test_a_round_that_nobody_is_in_goes_on_with_noise_and_is_paid_for() -> None:
    plan = noised("algorithm.select.rate=0.0001")
    summary = train(plan)
    versions = versions_of("wards")
    assert [version.tags["cohort_size"] for version in versions] == ["0", "0", "0"]
    assert len({version.tags["weights_sha256"] for version in versions}) == 3
    assert ledger().statement().spent == (SelfComposed(plan.algorithm.release, 3),)  # type: ignore[arg-type]
    assert replay("wards@latest", trusted_keys()).agrees
    assert summary.rounds == 3


def test_updates_that_are_not_finite_count_as_nothing_and_the_round_goes_on() -> None:
    summary = train(noised("algorithm.local.optimizer.learning_rate=1e30", "rounds=2"))
    record = json.loads(stored_file(str(summary.model_version), "round/record.json", "wards").read_text())["said"]
    assert record["report"]["contributions"] == []
    assert summary.rounds == 2
    assert np.isfinite(summary.metrics["test_loss"])


def test_what_was_trained_without_noise_is_nothing_to_start_from() -> None:
    train(small_plan("name=wards", "rounds=1", "scaling={kind: divide, by: 16}"))
    with pytest.raises(PlanError, match="start: what wards/1 tells of clients is not in the ledger of wards: it was"):
        train(noised("start={kind: version, version: 1}"))
    train(noised("rounds=1"))
    assert train(noised("rounds=1", "start={kind: version, version: 2}")).rounds == 1
    with pytest.raises(PlanError, match="start: what wards/2 tells of clients is not in the ledger of others"):
        train(noised("start={kind: version, version: 2}", OTHERS))
    train(simulated("rounds=1"))
    with pytest.raises(PlanError, match="start: what wards/4 tells of clients is not in the ledger"):
        train(noised("start={kind: version, version: 4}"))


def test_the_ledger_of_a_simulation_says_that_it_protects_nobody_and_so_does_its_refusal() -> None:
    told = "one client, added or removed; in a simulation, which protects nobody; Poisson sampling"
    train(simulated("rounds=1"), run_key="k")
    assert ledger(environment.privacy_ledger("wards-k", simulated=True)).statement().balance.said == told
    with pytest.raises(BudgetExceeded, match=rf"than 0\.01 \(unit client, delta 1e-05; {told}\)"):
        train(simulated("rounds=1", f"privacy={{population: wards, delta: {DELTA}, budget: 0.01}}"), run_key="other")


NOT_COUNTED = "what this training so far tells of clients is not in the ledger of wards: it was trained without noise"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (
            lambda: simulated("rounds=1"),
            lambda: noised("rounds=2"),
            "this training was a simulation so far and is none now; begin another$",
        ),
        (
            lambda: noised("rounds=1"),
            lambda: simulated("rounds=2"),
            "this training was no simulation so far and is one now; begin another$",
        ),
        (lambda: noised("rounds=1"), lambda: noised("rounds=2", OTHERS), NOT_COUNTED.replace("wards", "others")),
        (lambda: noised("rounds=1", *BARE), lambda: noised("rounds=2"), NOT_COUNTED),
    ],
    ids=["simulated", "now simulated", "another population", "without noise"],
)
def test_no_accepted_change_takes_rounds_out_of_what_is_counted(
    before: Callable[[], Plan], after: Callable[[], Plan], why: str
) -> None:
    train(before(), run_key="k")
    paid = {path: path.read_bytes() for path in environment.privacy_ledger("wards").parent.rglob("*.db")}
    with pytest.raises(PlanError, match=f"^--accept-change: {why}"):
        train(after(), run_key="k", accept_change=True)
    left = {path: path.read_bytes() for path in environment.privacy_ledger("wards").parent.rglob("*.db")}
    assert left == paid, "nothing is paid for what cannot go on"


def test_a_change_that_leaves_the_ledger_as_it_was_is_accepted() -> None:
    train(noised("rounds=1"), run_key="k")
    longer = train(noised("rounds=2"), run_key="k", accept_change=True)
    assert history(longer, "epsilon") == pytest.approx([cost(noised(), 1), cost(noised(), 2)], rel=1e-3)


def test_no_accepted_change_takes_what_it_started_from_out_of_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*given: object) -> None:
        raise TrainingError("the power went out")

    start = ("rounds=1", "start={kind: version, version: 1}")
    train(noised("rounds=1", *BARE))
    with monkeypatch.context() as patched:
        patched.setattr(round_tasks, "server_half", breaking)
        with pytest.raises(TrainingError, match="the power went out"):
            train(noised(*start, *BARE), run_key="k")
    with pytest.raises(PlanError, match="--accept-change: what this training so far tells of clients is not in the"):
        train(noised(*start), run_key="k", accept_change=True)


def test_a_training_refuses_a_ledger_that_lacks_what_its_start_has_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*given: object) -> None:
        raise TrainingError("the power went out")

    start = noised("rounds=1", "start={kind: version, version: 1}")
    train(noised("rounds=1"))
    path = environment.privacy_ledger("wards")
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(LedgerError, match="it was removed or set back"):
        train(start, run_key="gone")
    assert not path.exists()
    path.write_bytes(whole)
    with monkeypatch.context() as patched:
        patched.setattr(round_tasks, "server_half", breaking)
        with pytest.raises(TrainingError, match="the power went out"):
            train(start, run_key="broken")
    path.unlink()
    with pytest.raises(LedgerError, match="it was removed or set back"):
        train(start, run_key="broken")
    path.write_bytes(whole)
    assert history(train(start, run_key="found"), "epsilon") == pytest.approx([cost(noised(), 2)], rel=1e-3)


def test_a_training_goes_on_with_a_change_though_retention_has_removed_the_weights_of_its_start() -> None:
    start = "start={kind: version, version: 1}"
    train(noised("rounds=2"))
    train(noised("rounds=1", start), run_key="k")
    assert retain(noised("retention={kind: promoted}"))
    longer = train(noised("rounds=2", start), run_key="k", accept_change=True)
    assert history(longer, "epsilon") == pytest.approx([cost(noised(), 3), cost(noised(), 4)], rel=1e-3)


@pytest.mark.slow
def test_the_budget_of_a_population_is_the_same_for_all_its_plans() -> None:
    train(noised("rounds=1", budget=20))
    with pytest.raises(
        ValueError, match=r"begun with budget 20.0, the plan has 30.0; roundhouse privacy .* --set-budget"
    ):
        train(noised("rounds=1", budget=30))
    ledger().amend(30.0)
    assert train(noised("rounds=1", budget=30)).rounds == 1
