"""Trainings whose clients add noise: the server sees who takes part, and nothing else that is not noised."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from configs import environment
from configs.plan import Plan
from federated.errors import TrainingError
from federated.onion import Trained
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import Gaussian, Skellam
from flows.train import train
from tasks import round_tasks
from tasks.ledger import PrivacyLedger
from tasks.replaying import replay
from tasks.signing import signer, trusted_keys
from tests.flows.test_train import client, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

LOCAL = (
    "algorithm.transforms=[{kind: local_gaussian, norm: 0.5, noise_multiplier: 4.0}]",
    "algorithm.rule={kind: trimmed_mean}",
)
SKELLAM = (
    "algorithm.transforms=[{kind: distributed_skellam, norm: 0.5, noise_multiplier: 1.5, least: 3}]",
    "algorithm.rule={kind: fixed_mean, expected: 4}",
)


def noised(*overrides: str) -> Plan:
    """Digits over six clients, four of whom are in a round."""
    return small_plan(
        "name=wards",
        "rounds=2",
        "scaling={kind: divide, by: 16}",
        "stop=null",
        "privacy={population: wards, delta: 1.0e-5, budget: 50}",
        *overrides,
    )


def spent() -> tuple[SelfComposed, ...]:
    path = environment.privacy_ledger("wards")
    return PrivacyLedger(path, None, signer(), trusted_keys()).statement().spent


def test_a_training_with_noise_on_every_message_pays_without_sampling_and_is_replayed() -> None:
    summary = train(noised(*LOCAL))
    release = Gaussian(noise_multiplier=4.0)
    assert spent() == (SelfComposed(release, 2),)
    assert float(versions_of("wards")[-1].tags["epsilon"]) == pytest.approx(epsilon(spent(), 1e-5).best, rel=1e-5)
    assert versions_of("wards")[-1].tags["epsilon_means"] == (
        "all that one client sends, or zero updates in its place; delta 1e-05; no sampling: who takes part is known"
    )
    logged = client().get_run(summary.run_id).data.metrics
    assert not {"train_loss", "update_norm", "clipped"} & set(logged)
    for version in versions_of("wards"):
        found = replay(f"wards/{version.version}", trusted_keys())
        assert (found.agrees, found.differing, found.noise) == (True, (), None)


@pytest.mark.parametrize("noise", [LOCAL, SKELLAM], ids=["local", "distributed"])
def test_nobody_sees_that_a_clients_training_failed(noise: tuple[str, ...]) -> None:
    summary = train(noised(*noise, "rounds=1", "algorithm.local.optimizer.learning_rate=1e30"))
    assert client().get_run(summary.run_id).data.metrics["left_out"] == 0


def test_a_training_with_noise_in_parts_reports_what_those_who_were_there_add_and_is_replayed() -> None:
    summary = train(noised(*SKELLAM))
    assert spent() == (SelfComposed(Skellam(noise_multiplier=1.5, units=2**16), 2),)
    points = client().get_metric_history(summary.run_id, "noise_multiplier_effective")
    assert [point.value for point in points] == pytest.approx([1.5 * (4 / 3) ** 0.5] * 2)
    for version in versions_of("wards"):
        found = replay(f"wards/{version.version}", trusted_keys())
        assert (found.agrees, found.differing) == (True, ())
        assert found.noise == pytest.approx(1.5, abs=0.2)
    record = json.loads(stored_file(str(summary.model_version), "round/record.json", "wards").read_text())["said"]
    assert {weight for _, _, weight in record["report"]["contributions"]} == {1.0}


def test_a_round_that_too_few_survive_fails_before_it_releases_anything_and_stays_paid_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def garbled(*given: Any) -> Trained:
        sent = encode(*given)
        return sent._replace(update=replace(sent.update, delta=np.full(1, np.nan, np.float32)))

    encode = round_tasks.encode
    monkeypatch.setattr(round_tasks, "encode", garbled)
    with pytest.raises(TrainingError, match="0 usable updates, quorum is 3"):
        train(noised(*SKELLAM), run_key="night")
    assert spent() == (SelfComposed(Skellam(noise_multiplier=1.5, units=2**16), 1),)
    assert versions_of("wards") == []
