"""Trainings whose noise is one release: paid for once, whatever crashes, and computed again."""

from __future__ import annotations

import pytest

from configs import environment
from configs.plan import Plan
from federated.errors import TrainingError
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import Gaussian
from flows.train import train
from tasks import round_tasks
from tasks.ledger import BudgetExceeded, PrivacyLedger
from tasks.replaying import replay
from tasks.signing import signer, trusted_keys
from tests.flows.test_privacy import history
from tests.flows.test_train import small_plan, versions_of

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

RELEASE = Gaussian(noise_multiplier=4.0)


def noised(*overrides: str, budget: str = "50") -> Plan:
    """Digits over six clients who take turns, four a round: in three rounds each has two."""
    return small_plan(
        "name=wards",
        "simulation=true",
        "baselines=false",
        "scaling={kind: divide, by: 16}",
        "stop=null",
        "quorum=1",
        f"privacy={{population: wards, delta: 1.0e-5, budget: {budget}}}",
        "algorithm.select={kind: round_robin, cohort: 4}",
        "algorithm.transforms=[{kind: correlated_gaussian, norm: 0.5, noise_multiplier: 4.0, rounds: 3, "
        "participations: 2, seeded: true}]",
        "algorithm.rule={kind: fixed_mean, expected: 4}",
        *overrides,
    )


def spent(run: str) -> tuple[SelfComposed, ...]:
    path = environment.privacy_ledger(run, True)
    return PrivacyLedger(path, None, signer(), trusted_keys()).statement().spent


def test_a_training_that_broke_off_and_went_on_has_paid_once_and_is_replayed(monkeypatch) -> None:
    server_half, broken = round_tasks.server_half, list[int]()

    def breaking(algorithm, state, *rest):
        done = server_half(algorithm, state, *rest)
        if state.round == 1 and not broken:
            broken.append(1)
            raise TrainingError("the power went out")
        return done

    monkeypatch.setattr(round_tasks, "server_half", breaking)
    with pytest.raises(TrainingError, match="the power went out"):
        train(noised(), run_key="night")
    assert spent("wards-night") == (SelfComposed(RELEASE, 1),)
    summary = train(noised(), run_key="night")
    assert spent("wards-night") == (SelfComposed(RELEASE, 1),)
    once = epsilon([SelfComposed(RELEASE, 1)], 1e-5).best
    assert history(summary, "epsilon") == pytest.approx([once] * 3, abs=1e-3)
    assert versions_of("wards")[-1].tags["epsilon_means"].startswith("one client's updates in all rounds of a training")
    for version in versions_of("wards"):
        found = replay(f"wards/{version.version}", trusted_keys())
        assert (found.agrees, found.differing) == (True, ())
    whole = train(noised(), run_key="morning")
    assert whole.weights_sha256 == summary.weights_sha256


def test_a_training_that_cannot_be_paid_for_whole_does_not_begin() -> None:
    with pytest.raises(BudgetExceeded, match="privacy budget of wards: epsilon 0 is spent"):
        train(noised(budget="0.5"), run_key="poor")
    assert versions_of("wards") == []
