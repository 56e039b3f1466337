"""What a plan may say of the weights that round 1 starts from."""

from __future__ import annotations

import pytest

from configs.loading import load_plan, shipped
from configs.plan import Plan
from configs.starts import Fresh, FromChampion, FromVersion
from federated.errors import PlanError


@pytest.mark.parametrize("name", shipped())
def test_a_plan_that_does_not_say_draws_its_weights(name: str) -> None:
    assert load_plan(name).start == Fresh()


@pytest.mark.parametrize(
    ("written", "start"),
    [
        ("{kind: fresh}", Fresh()),
        ("{kind: champion}", FromChampion()),
        ("{kind: version, version: 12}", FromVersion(version=12)),
        ("{version: 12, kind: version}", FromVersion(version=12)),
    ],
)
def test_each_way_to_start_is_named_by_its_kind(written: str, start: object) -> None:
    plan = load_plan("quickstart", [f"start={written}"])
    assert plan.start == start
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("{kind: champoin}", "start: unknown kind 'champoin'; expected one of 'fresh', 'champion', 'version'"),
        ("champion", "start: expected a mapping with a kind, such as {kind: champion}, got 'champion'"),
        ("{kind: version}", "start.version.version: is required"),
        ("{kind: version, version: 0}", "start.version.version: input should be greater than or equal to 1, got 0"),
        ("{kind: version, version: latest}", "start.version.version: "),
        ("{kind: champion, version: 3}", "start.champion.version: unknown field"),
    ],
)
def test_what_names_no_start_is_refused_at_its_place(written: str, reason: str) -> None:
    with pytest.raises(PlanError) as refusal:
        load_plan("quickstart", [f"start={written}"])
    assert str(refusal.value).startswith(reason)
