"""Trainings whose clients keep something: they go on, are replayed, and tell nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from configs import environment
from configs.loading import load_plan
from configs.plan import Plan
from flows.train import train
from tasks import round_tasks
from tasks.replaying import replay
from tasks.signing import trusted_keys
from tasks.verifying import verify
from tests.flows.test_train import POISONED, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")


def scaffold(*overrides: str) -> Plan:
    return small_plan("algorithm.correction={kind: scaffold}", "rounds=4", *overrides)


def kept(run_key: str) -> list[Path]:
    return sorted((Path(environment.checkpoints()) / "quickstart" / run_key / "memories").iterdir())


@pytest.mark.parametrize("every", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_training_that_dies_goes_on_with_what_its_clients_kept(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, really = train(scaffold(), run_key="whole").weights_sha256, round_tasks.server_half

    def fails(algorithm: Any, state: Any, *rest: Any) -> Any:
        if state.round + 1 == 4:
            raise OSError("the disk was away")
        return really(algorithm, state, *rest)

    plan = scaffold(f"commit_every={every}")
    with monkeypatch.context() as broken:
        broken.setattr(round_tasks, "server_half", fails)
        assert train(plan, run_key="torn", return_state=True).is_failed()
    assert train(plan, run_key="torn").weights_sha256 == reference


def test_versions_verify_and_are_replayed_from_the_start() -> None:
    summary = train(scaffold())
    for version in versions_of("quickstart"):
        assert verify(f"quickstart/{version.version}", trusted_keys()).faults == []
    found = replay("quickstart@latest", trusted_keys())
    assert (found.agrees, found.since, found.round, found.differing) == (True, 0, 4, ())
    assert found.computed == summary.weights_sha256


def test_what_clients_keep_is_on_disk_and_not_in_mlflow() -> None:
    train(scaffold(), run_key="key")
    memories = [load(path.read_bytes())["correction"] for path in kept("key")]
    assert all(np.any(memory) for memory in memories)
    version = stored_file("4", "")
    files = [path for path in version.rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert not any(memory.tobytes() in content for memory in memories)


def test_a_client_that_is_left_out_keeps_what_it_had() -> None:
    plan = scaffold("algorithm.rule={kind: mean}", "algorithm.select={kind: all}", "rounds=2")
    data = {"data": load_plan("quickstart", [POISONED]).data, "partition": load_plan("csv-template").partition}
    train(plan.model_copy(update=data), run_key="poisoned")
    learnt = [load(path.read_bytes())["correction"] for path in kept("poisoned")]
    assert len(learnt) > 1
    assert all(np.isfinite(memory).all() for memory in learnt)


def test_the_control_variate_counts_as_traffic() -> None:
    plain, corrected = train(small_plan("rounds=1")), train(scaffold("rounds=1"))
    from tests.flows.test_train import run_of

    down, up = (
        [run_of(summary).data.metrics[name] for summary in (plain, corrected)] for name in ("bytes_down", "bytes_up")
    )
    assert down[1] == 2 * down[0]
    assert up[1] == 2 * up[0]
