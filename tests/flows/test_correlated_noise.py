"""Trainings whose noise is one release: paid for once, whatever crashes, and computed again."""

from __future__ import annotations

from pathlib import Path

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
from tasks.verifying import verify
from tests.flows.test_privacy import history
from tests.flows.test_train import run_of, small_plan, versions_of

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

RELEASE = Gaussian(noise_multiplier=4.0)


def noised(*overrides: str, budget: str = "50", simulation: bool = True) -> Plan:
    """Digits over six clients who take turns, four a round: in three rounds each has two."""
    return small_plan(
        "name=wards",
        f"simulation={str(simulation).lower()}",
        "baselines=false",
        "scaling={kind: divide, by: 16}",
        "stop=null",
        "quorum=1",
        f"privacy={{population: wards, delta: 1.0e-5, budget: {budget}}}",
        "algorithm.select={kind: round_robin, cohort: 4}",
        "algorithm.transforms=[{kind: correlated_gaussian, norm: 0.5, noise_multiplier: 4.0, rounds: 3, "
        f"participations: 2, seeded: {str(simulation).lower()}}}]",
        "algorithm.rule={kind: fixed_mean, expected: 4}",
        *overrides,
    )


def spent(whose: str, simulated: bool = True) -> tuple[SelfComposed, ...]:
    path = environment.privacy_ledger(whose, simulated)
    return PrivacyLedger(path, None, signer(), trusted_keys()).statement().spent


@pytest.fixture
def breaks_off_in_round_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its noise was drawn, once."""
    server_half, broken = round_tasks.server_half, list[int]()

    def breaking(algorithm, state, *rest):
        done = server_half(algorithm, state, *rest)
        if state.round == 1 and not broken:
            broken.append(1)
            raise TrainingError("the power went out")
        return done

    monkeypatch.setattr(round_tasks, "server_half", breaking)


@pytest.mark.usefixtures("breaks_off_in_round_2")
def test_a_training_that_broke_off_and_went_on_has_paid_once_and_is_replayed() -> None:
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


@pytest.mark.usefixtures("breaks_off_in_round_2")
def test_secret_noise_of_a_training_that_broke_off_is_drawn_and_paid_for_again_and_measured() -> None:
    with pytest.raises(TrainingError, match="the power went out"):
        train(noised(simulation=False), run_key="night")
    assert spent("wards", False) == (SelfComposed(RELEASE, 1),)
    summary = train(noised(simulation=False), run_key="night")
    assert spent("wards", False) == (SelfComposed(RELEASE, 2),)
    once, twice = (epsilon([SelfComposed(RELEASE, times)], 1e-5).best for times in (1, 2))
    assert history(summary, "epsilon") == pytest.approx([once, twice, twice], abs=1e-3)
    assert history(summary, "privacy_rounds_left") == [2, 1, 0]
    assert run_of(summary).data.tags["noise"] == "from the operating system"
    for version in versions_of("wards"):
        found = replay(f"wards/{version.version}", trusted_keys())
        assert (found.agrees, found.differing) == (True, ())
        assert found.noise == pytest.approx(4.0, rel=0.15)
        assert verify(f"wards/{version.version}", trusted_keys()).faults == []
    assert found.computed == summary.weights_sha256


def test_the_key_of_secret_noise_is_in_no_file() -> None:
    train(noised("rounds=1", simulation=False))
    key = signer().derived("noise")
    for folder in (environment.home(), Path(environment.checkpoints())):
        for path in folder.rglob("*"):
            content = path.read_bytes() if path.is_file() else b""
            assert key not in content, path
            assert key.hex().encode() not in content, path


def test_a_training_that_cannot_be_paid_for_whole_does_not_begin() -> None:
    with pytest.raises(
        BudgetExceeded, match=r"^privacy budget of wards: epsilon 0 is spent, a whole training would make it 0\.9\d+"
    ):
        train(noised(budget="0.5"), run_key="poor")
    assert versions_of("wards") == []
