"""What decides a training's bits, told apart."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.loading import load_plan, shipped
from configs.plan import Plan
from federated.data import Client, Split
from federated.federation import Federation
from federated.scaling import Affine
from tasks.identity import differences, digest_of_code, fingerprints, identify
from tests.fakes import line_federation

CUSTOM_MODEL = "model={{kind: custom, target: '{}:build', options: {}}}"


def plan(*overrides: str) -> Plan:
    """The textbook's line."""
    return load_plan("linear-regression", overrides)


def kept(identity: dict[str, Any]) -> dict[str, Any]:
    """As a record gives it back."""
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def changes(before: Plan, now: Plan) -> list[str]:
    """What a plan's change is called."""
    return differences(kept(identify(before)), identify(now))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one file in one room."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "old.py").write_text("1")
    monkeypatch.setattr("tasks.identity._PROJECT", tmp_path)
    return tmp_path


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that plans can name."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", shipped())
def test_nothing_differs_where_nothing_has_changed(name: str) -> None:
    assert changes(load_plan(name), load_plan(name)) == []


def test_numbers_survive_a_record_whatever_their_size() -> None:
    overrides = ["algorithm.local.optimizer.learning_rate=0.1000000000000000055", "data.noise=1.0e-300"]
    assert changes(plan(*overrides), plan(*overrides)) == []


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("rounds=10", "plan.rounds: 40, now 10"),
        ("algorithm.seed=8", "plan.algorithm.seed: 7, now 8"),
        ("algorithm.local.batch_size=4", "plan.algorithm.local.batch_size: None, now 4"),
        ("stop={minutes: 5}", "plan.stop: None, now absent"),
    ],
)
def test_a_change_of_the_plan_is_one_line(override: str, line: str) -> None:
    assert changes(plan(), plan(override))[0] == line


def test_what_comes_and_what_goes_is_told() -> None:
    clipped = "algorithm.transforms=[{kind: clip, norm: 1.0}]"
    came, went = changes(plan(), plan(clipped)), changes(plan(clipped), plan())
    assert came == [
        "plan.algorithm.transforms: [], now absent",
        "plan.algorithm.transforms.0.kind: absent, now clip",
        "plan.algorithm.transforms.0.norm: absent, now 1.0",
    ]
    assert went == [
        "plan.algorithm.transforms.0.kind: clip, now absent",
        "plan.algorithm.transforms.0.norm: 1.0, now absent",
        "plan.algorithm.transforms: absent, now []",
    ]


def test_an_option_of_another_type_is_a_change() -> None:
    assert changes(plan(CUSTOM_MODEL.format("a", "{depth: 3}")), plan(CUSTOM_MODEL.format("a", "{depth: '3'}")))


def test_every_room_counts_and_neither_tests_nor_display_do() -> None:
    rooms = {Path(name).parts[0] for name in identify(plan())["code"]}
    assert rooms == {"configs", "federated", "flows", "models", "tasks"}


def test_a_file_is_known_by_the_beginning_of_its_digest(project: Path) -> None:
    assert identify(plan())["code"] == {"tasks/old.py": hashlib.sha256(b"1").hexdigest()[:16]}


def test_code_that_changes_comes_or_goes_is_told(project: Path) -> None:
    first = kept(identify(plan()))
    (project / "tasks" / "old.py").write_text("2")
    (project / "tasks" / "new.py").write_text("3")
    second = identify(plan())
    one, two, three = (hashlib.sha256(text).hexdigest()[:16] for text in (b"1", b"2", b"3"))
    assert differences(first, second) == [
        f"code.tasks/old.py: {one}, now {two}",
        f"code.tasks/new.py: absent, now {three}",
    ]
    assert f"code.tasks/new.py: {three}, now absent" in differences(second, first)


def test_another_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = kept(identify(plan())), importlib.metadata.version

    def version(name: str) -> str:
        return "99.1" if name == "numpy" else found(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert differences(before, identify(plan())) == [f"packages.numpy: {np.__version__}, now 99.1"]


def test_another_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kept(identify(plan()))
    monkeypatch.setattr(platform, "python_version", lambda: "3.99.0")
    assert differences(before, identify(plan())) == [f"python: {before['python']}, now 3.99.0"]


def test_what_decides_the_bits_is_among_the_packages() -> None:
    assert {"keras", "numpy", "tensorflow"} <= set(identify(plan())["packages"])


def test_the_users_own_module_counts(own_code: Path) -> None:
    module, target = own_code / "model_of_my_own.py", plan(CUSTOM_MODEL.format("model_of_my_own", "{}"))
    module.write_text("def build(): return 1")
    before = kept(identify(target))
    assert before["code"]["model_of_my_own"] == hashlib.sha256(module.read_bytes()).hexdigest()[:16]
    module.write_text("def build(): return 2")
    (change,) = differences(before, identify(target))
    assert change.startswith("code.model_of_my_own: ")


def test_every_target_in_a_plan_counts_however_deep(own_code: Path) -> None:
    (own_code / "package_of_my_own").mkdir()
    for name in ("__init__", "data", "model"):
        (own_code / "package_of_my_own" / f"{name}.py").touch()
    own = plan(
        "data={kind: custom, target: 'package_of_my_own.data:load'}",
        "model={kind: custom, target: 'package_of_my_own.model:build'}",
        "algorithm.rule={kind: custom, target: 'tests.federated.user_code:Median'}",
    )
    expected = {"package_of_my_own.data", "package_of_my_own.model", "tests.federated.user_code"}
    assert identify(own)["code"].keys() - identify(plan())["code"].keys() == expected


@pytest.mark.parametrize("target", ["sys:intern", "there_is_no_such_module:build"])
def test_a_target_without_a_file_has_no_digest(target: str) -> None:
    own = plan(f"model={{kind: custom, target: '{target}'}}")
    assert target.partition(":")[0] not in identify(own)["code"]


def test_a_column_called_target_is_no_code() -> None:
    assert identify(plan("data={kind: csv, path: table.csv, target: 'json'}"))["code"] == identify(plan())["code"]


@pytest.mark.parametrize(
    "override",
    [
        "data={kind: csv, path: table.csv, target: 'glucose.fasting: mmol'}",
        CUSTOM_MODEL.format("json", "{target: 'val.loss:min'}"),
    ],
)
def test_a_name_with_a_colon_is_no_module(override: str) -> None:
    assert identify(plan(override))["plan"]


def test_a_secret_option_stays_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_MINE", "hunter2")
    own = plan(CUSTOM_MODEL.format("a", "{token: '${TOKEN_OF_MINE}'}"))
    assert "hunter2" not in json.dumps(identify(own))


def test_the_digest_of_the_code_is_that_of_every_file_in_any_order() -> None:
    lines = b"a.py 11\nb.py 22\n"
    assert digest_of_code({"code": {"b.py": "22", "a.py": "11"}}) == hashlib.sha256(lines).hexdigest()
    digests = {digest_of_code({"code": code}) for code in ({"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"})}
    assert len(digests) == 4


def federation_of(values: np.ndarray[Any, np.dtype[np.float32]]) -> Federation:
    """Two clients and a server with these rows and targets, a third each."""
    parts = [Split(part, part[:, 0]) for part in np.split(values, 3)]
    clients = {name: Client(name, part, part.take(np.arange(1))) for name, part in zip("ab", parts[1:], strict=True)}
    scaling = Affine(values.mean(axis=0), values.std(axis=0))
    return Federation(clients, parts[0], parts[0], None, scaling)


def test_a_fingerprint_has_schema_and_counts() -> None:
    federation = federation_of(np.zeros((12, 5), np.float32))
    expected = {"train_rows": 4, "test_rows": 1, "inputs": [5], "labels": None}
    assert fingerprints(federation) == {"a": expected, "b": expected}


def test_a_fingerprint_names_the_classes() -> None:
    federation = load_plan("breast-cancer").federation()
    for found in fingerprints(federation).values():
        assert found["labels"] == list(federation.labels or ())


def test_no_value_of_the_data_is_in_a_fingerprint() -> None:
    values = (1234.5 + np.arange(36, dtype=np.float32)).reshape(12, 3)
    text = json.dumps(fingerprints(federation_of(values)))
    assert not [value for value in [*values.flat, values.mean(), values.std()] if f"{value:.2f}"[:4] in text]


def test_the_same_schema_and_counts_give_the_same_fingerprint_whatever_the_rows() -> None:
    federation = line_federation()
    others = {
        name: Client(name, *(Split(split.x + 1, split.y + 1) for split in (client.train, client.test)))
        for name, client in federation.clients.items()
    }
    assert fingerprints(replace(federation, clients=others)) == fingerprints(federation)
    assert fingerprints(line_federation(points=41)) != fingerprints(line_federation(points=40))
