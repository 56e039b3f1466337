"""``--set path=value``: what it can change, and how it says that it cannot."""

from pathlib import Path

import pytest

from configs.loading import load_plan, resolve_plan
from federated.errors import PlanError
from federated.local_optimizers import Adam
from federated.stopping import Stop
from federated.transforms import Clip, ClipElements


def test_an_override_changes_that_field_and_no_other():
    plain, changed = load_plan("quickstart"), load_plan("quickstart", ["rounds=5"])
    assert changed == plain.model_copy(update={"rounds": 5})
    assert plain.rounds != 5


def test_overrides_apply_in_order():
    assert load_plan("quickstart", ["rounds=5", "rounds=6"]).rounds == 6


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("rounds=7", "rounds", 7),
        ("baselines=false", "baselines", False),
        ("description=''", "description", ""),
        ("description='a=b'", "description", "a=b"),
        ("description='a: b'", "description", "a: b"),
        ("algorithm.local.batch_size=null", "algorithm.local.batch_size", None),
        ("algorithm.local.optimizer.learning_rate=0.5", "algorithm.local.optimizer.learning_rate", 0.5),
        ("algorithm.local.optimizer.learning_rate=1e-3", "algorithm.local.optimizer.learning_rate", 1e-3),
        ("algorithm.local.optimizer={kind: adam}", "algorithm.local.optimizer", Adam()),
        ("model.hidden=[32, 16]", "model.hidden", (32, 16)),
        ("model.hidden.0=32", "model.hidden", (32,)),
        ("algorithm.transforms.0.norm=2.5", "algorithm.transforms", (Clip(norm=2.5),)),
        (
            "algorithm.transforms.0={kind: clip_elements, threshold: 1}",
            "algorithm.transforms",
            (ClipElements(threshold=1),),
        ),
        ("algorithm.transforms=[]", "algorithm.transforms", ()),
        ("holdout.test=0.3", "holdout.test", 0.3),
        ("stop.patience=3", "stop", Stop(patience=3)),
        ("stop={metric: accuracy, at_least: 0.9}", "stop", Stop(metric="accuracy", at_least=0.9)),
    ],
)
def test_an_override_is_yaml_and_goes_by_fields_and_positions(override, path, value):
    found = load_plan("quickstart", [override])
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_an_override_may_take_a_section_away():
    assert load_plan("breast-cancer").stop is not None
    assert load_plan("breast-cancer", ["stop=null"]).stop is None


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("rounds", "expected path=value, for example rounds=5"),
        ("rounds=[", "'[' is no YAML value"),
        ("rounds.x=1", "rounds has no fields"),
        ("rounds.x.y=1", "there is no 'x' to go into"),
        ("model.hidden.0.width=1", "model.hidden.0 has no fields"),
        ("algorithm.transforms.1.norm=1", "'1' is no position in a list of 1; the first is 0"),
        ("algorithm.transforms.-1.norm=1", "'-1' is no position in a list of 1; the first is 0"),
        ("algorithm.transforms.clip.norm=1", "'clip' is no position in a list of 1; the first is 0"),
        ("model.hidden.1=8", "'1' is no position in a list of 1; the first is 0"),
        ("model.hidden.²=8", "'²' is no position in a list of 1; the first is 0"),
    ],
)
def test_an_override_that_leads_nowhere_says_so(override, complaint):
    with pytest.raises(PlanError) as refusal:
        load_plan("quickstart", [override])
    assert str(refusal.value) == f"--set {override}: {complaint}"


def test_an_override_leaves_the_file_as_it_was(tmp_path: Path):
    text = "name: mine\ndata: {kind: digits}\nmodel: {kind: mlp}\nrounds: 3\n"
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_plan(str(path), ["rounds=4"]).rounds == 4
    assert load_plan(str(path)).rounds == 3
    assert path.read_text(encoding="utf-8") == text


def test_overrides_apply_to_a_plan_that_is_already_made():
    plan = load_plan("quickstart")
    assert resolve_plan(plan, ["rounds=5"]) == load_plan("quickstart", ["rounds=5"])
    assert resolve_plan(plan) is plan
    assert resolve_plan("quickstart", ["rounds=5"]) == load_plan("quickstart", ["rounds=5"])
    assert plan == load_plan("quickstart")


def test_overrides_reach_what_a_made_plan_left_to_its_defaults():
    plan = load_plan("linear-regression")
    assert plan.stop is None
    changed = resolve_plan(plan, ["algorithm.server.learning_rate=0.5", "stop.patience=3"])
    assert changed.algorithm.server.learning_rate == 0.5
    assert changed.stop == Stop(patience=3)


def test_the_same_kind_keeps_its_fields():
    same = load_plan("quickstart", ["algorithm.local.optimizer.kind=sgd", "partition.kind=dirichlet"])
    assert same == load_plan("quickstart")


def test_naming_the_kind_that_was_the_default_keeps_its_fields():
    overrides = ["algorithm.server={kind: sgd, learning_rate: 0.5}", "algorithm.server.kind=sgd"]
    assert load_plan("quickstart", overrides).algorithm.server.learning_rate == 0.5


def test_an_option_of_the_users_own_may_be_called_kind():
    model = "model={kind: custom, target: 'my.code:build', options: {width: 3}}"
    plan = load_plan("quickstart", [model, "model.options.kind=wide"])
    assert plan.model.options == {"width": 3, "kind": "wide"}
