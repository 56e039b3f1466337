"""Families in flows: the plain loop's bits, an abandoned round, and what a record says of a selection."""

from __future__ import annotations

import json

import pytest

from flows.train import train
from tasks.replaying import replay
from tasks.signing import trusted_keys
from tasks.verifying import verify
from tasks.versions import RECORD
from tests.flows.test_train import plain_loop, run_of, small_plan, versions_of
from tests.tasks.test_stored import stored_file

pytestmark = pytest.mark.usefixtures("prefect_api", "home")

SELECT = "algorithm.select="
CARDS = "{" + ", ".join(f"client-{number}: {{site: {number % 3}}}" for number in range(6)) + "}"
FAMILIES = {
    "power of choice": [f"{SELECT}{{kind: power_of_choice, cohort: 3, candidates: 5}}"],
    "stratified": [
        f"{SELECT}{{kind: stratified, cohort: 4, tag: site}}",
        f"cards={CARDS}",
    ],
    "less to send": ["algorithm.transforms=[{kind: clip, norm: 5}, {kind: top_k, share: 0.05}, {kind: quantise}]"],
    "fltrust": ["algorithm.rule={kind: fltrust}", "holdout.root=0.05"],
    "qfedavg": ["algorithm.rule={kind: qfedavg, q: 1.0, lipschitz: 10}"],
    "yogi over multi-krum": [
        "algorithm.rule={kind: multi_krum, byzantine: 0}",
        "quorum=3",
        "algorithm.server={kind: yogi}",
    ],
}


SHORT = ("power of choice", "less to send", "yogi over multi-krum")
"""What stays in the short form of the test."""


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(overrides, id=name, marks=() if name in SHORT else pytest.mark.slow)
        for name, overrides in FAMILIES.items()
    ],
)
def test_a_flow_is_the_plain_loop_and_its_versions_verify_and_replay(overrides: list[str]) -> None:
    plan = small_plan("rounds=3", *overrides)
    summary = train(plan)
    assert summary.weights_sha256 == plain_loop(plan)
    assert verify("quickstart@latest", trusted_keys()).faults == []
    assert replay("quickstart@latest", trusted_keys()).agrees


def test_a_round_without_enough_clients_leaves_the_model_as_it_is() -> None:
    away = f"{SELECT}{{kind: available, cohort: 6, presence: {{cycle: 2, at: [1]}}}}"
    plan = small_plan("rounds=4", "quorum=5", away)
    summary = train(plan)
    assert summary.weights_sha256 == plain_loop(plan)
    digests = [version.tags["weights_sha256"] for version in versions_of("quickstart")]
    assert digests[0] == digests[1] != digests[2] == digests[3]
    assert run_of(summary).data.metrics["abandoned"] == 1.0
    record = json.loads(stored_file("2", RECORD).read_text())["said"]
    assert record["report"]["selection"] == {"eligible": [], "reasons": {}}


def test_a_record_says_who_was_eligible_and_why_somebody_was_chosen() -> None:
    train(small_plan("rounds=1", f"{SELECT}{{kind: power_of_choice, cohort: 2, candidates: 5}}"))
    record = json.loads(stored_file("1", RECORD).read_text())["said"]
    selection = record["report"]["selection"]
    assert selection["eligible"] == "all"
    assert len(selection["reasons"]) == 5
    chosen = {name for name, reason in selection["reasons"].items() if int(reason.split("rank ")[1].split()[0]) <= 2}
    assert chosen == {client for client, _, _ in record["report"]["contributions"]}


def test_bytes_are_counted_before_and_after() -> None:
    summary = train(small_plan("rounds=1", "algorithm.transforms=[{kind: sign}]", "quorum=1"))
    metrics = run_of(summary).data.metrics
    weights = metrics["bytes_down"] / metrics["cohort"] / 4
    assert metrics["bytes_up_before"] == metrics["bytes_down"]
    assert metrics["bytes_up"] / metrics["cohort"] == -(-weights // 8) + 8
    assert metrics["sign_bytes_after"] == metrics["bytes_up"] / metrics["cohort"]
