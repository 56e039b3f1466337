"""Every version is computed again, bit for bit; what is not as it was is seen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.loading import load_plan
from configs.plan import Plan
from federated import loop
from federated.errors import InputError, TrainingError
from flows.train import train
from tasks.replaying import Replayed, replay
from tasks.signing import ForgedError, read_signed, signer, trusted_keys
from tasks.store import sha256
from tasks.stored import Library
from tasks.tracking import START
from tasks.verifying import REMOVED
from tasks.watching import watched_by
from tests.flows import own_code
from tests.flows.test_train import Interrupter, small_plan, write_table
from tests.tasks.test_stored import at, copied, new_home, run_file, stored_file

RECORD, STATE = "round/record.json", "round/state.safetensors"
TABLE = ["rounds=2", "baselines=false", "scaling={kind: as_is}", "stop=null"]


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``quickstart`` 1 to 4: a training that was interrupted after round 2 and went on. 5 and 6: one that started from
    version 4. ``own-code``: a model with moving statistics. ``csv-template``: a table of three sites."""
    folder = tmp_path_factory.mktemp("replayed")
    home = new_home(folder, empty_mlflow)
    own = Plan.model_validate(yaml.safe_load(Path(own_code.__file__).with_suffix(".yaml").read_text()))
    with at(home):
        with watched_by(Interrupter()):
            train(small_plan("rounds=4"), run_key="interrupted", return_state=True)
        train(small_plan("rounds=4"), run_key="interrupted")
        train(small_plan("rounds=2", "start={kind: version, version: 4}"))
        train(own)
        train(load_plan("csv-template", [*TABLE, f"data.path={write_table(folder)}"]))
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, to spoil."""
    copy = copied(trained, tmp_path)
    with at(copy):
        yield copy


@pytest.fixture
def table(trained: Path) -> Iterator[Path]:
    """The file of the sites, as it was again afterwards."""
    path = trained.parent / "table.csv"
    before = path.read_text()
    yield path
    path.write_text(before)


def replayed(uri: str) -> Replayed:
    return replay(uri, trusted_keys())


def rewrite_history(version: str, identity: dict[str, Any]) -> None:
    """What somebody with the key can do: a training that says it was another, and all of whose signatures fit."""
    library = Library()
    run_id = library.client.get_model_version("quickstart", version).run_id
    by_round = library.of_run("quickstart", str(run_id))
    files = [run_file(version, START), *(stored_file(by_round[number], RECORD) for number in sorted(by_round))]
    previous: str | None = None
    for file in files:
        said = read_signed(file.read_bytes(), "record") | {"previous": previous}
        if "identity" in said:
            said["identity"] |= identity
        file.write_bytes(signer().sign("record", said))
        previous = sha256(file.read_bytes())


@pytest.mark.parametrize(
    "uri",
    [
        *(f"quickstart/{number}" for number in range(1, 7)),
        "own-code/1",
        "own-code/2",
        "csv-template/1",
        "csv-template/2",
    ],
)
def test_every_version_comes_out_with_the_same_bits(trained: Path, uri: str) -> None:
    with at(trained):
        found = replayed(uri)
        name, _, version = uri.partition("/")
        tags = Library().client.get_model_version(name, version).tags
    assert found.agrees
    assert found.computed == found.recorded == tags["weights_sha256"]
    assert (found.name, found.version, str(found.round)) == (name, version, tags["round"])
    assert (found.differing, found.code_changed) == ((), False)


def test_it_says_what_it_found(trained: Path) -> None:
    with at(trained):
        found = replayed("quickstart@candidate")
    assert list(found.lines()) == [
        "quickstart version 6, round 2",
        f"recorded  sha256 {found.recorded}",
        f"computed  sha256 {found.recorded}",
        "the same bits",
    ]


def test_a_data_file_that_has_changed_gives_other_weights_and_names_the_clients(trained: Path, table: Path) -> None:
    lines = table.read_text().splitlines()
    changed = [",".join([site, f"{float(height) + 1}", *rest]) if site == "b" else ",".join([site, height, *rest])
               for site, height, *rest in (line.split(",") for line in lines[1:])]  # fmt: skip
    table.write_text("\n".join([lines[0], *changed]))
    with at(trained):
        found = replayed("csv-template/2")
    assert not found.agrees
    assert found.differing == ("b",)
    assert list(found.lines())[-2:] == ["updates that differ: b", "DIFFERENT"]


def test_a_client_that_is_gone_is_named(trained: Path, table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(line for line in lines[1:] if not line.startswith("c,"))]))
    with at(trained):
        found = replayed("csv-template/2")
    assert not found.agrees
    assert "c" in found.differing


def test_a_data_file_that_is_gone_is_one_line(trained: Path, table: Path) -> None:
    table.unlink()
    with at(trained), pytest.raises(InputError, match=r"data\.csv\.path: there is no file .*table\.csv"):
        replayed("csv-template/2")


@pytest.mark.parametrize("version", ["1", "3"])
def test_a_training_that_says_it_had_another_plan_is_seen(home: Path, version: str) -> None:
    """Every signature fits: only computing it again tells."""
    other = small_plan("rounds=4", "algorithm.local.optimizer.learning_rate=0.11")
    rewrite_history(version, {"plan": other.model_dump(mode="json")})
    found = replayed(f"quickstart/{version}")
    assert not found.agrees
    assert len(found.differing) == 4


def test_a_plan_that_no_longer_holds_is_one_line(home: Path) -> None:
    plan = small_plan("rounds=4").model_dump(mode="json")
    rewrite_history("2", {"plan": plan | {"model": {"kind": "transformer"}}})
    with pytest.raises(InputError, match="transformer"):
        replayed("quickstart/2")


def test_code_that_has_changed_since_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.replaying.digest_of_code", lambda identity: "0" * 64)
    found = replayed("quickstart/2")
    assert (found.agrees, found.code_changed) == (True, True)
    assert "the code has changed since" in found.lines()


def remove_weights(*versions: str) -> None:
    """As retention does."""
    for version in versions:
        stored_file(version, STATE).unlink()
        Library().client.set_model_version_tag("quickstart", version, REMOVED, "2026-01-01")


def test_where_retention_removed_the_parents_weights_the_rounds_before_are_computed_too(home: Path) -> None:
    remove_weights("2", "3")
    found = replayed("quickstart/4")
    assert (found.agrees, found.version, found.round, found.since, found.differing) == (True, "4", 4, 1, ())
    assert list(found.lines())[1] == "computed from round 1: no round between has weights"
    remove_weights("1", "4")
    found = replayed("quickstart/4")
    assert (found.agrees, found.version, found.round, found.since) == (True, "4", 4, 0)


def test_the_first_round_that_differs_is_the_one_that_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_weights("2", "3")
    really = loop.encode

    def other(algorithm: Any, round: int, *rest: Any) -> Any:
        trained = really(algorithm, round, *rest)
        update = trained.update
        return trained._replace(update=replace(update, delta=2 * update.delta)) if round == 3 else trained

    monkeypatch.setattr(loop, "encode", other)
    found = replayed("quickstart/4")
    assert (found.agrees, found.version, found.round, found.since) == (False, "3", 3, 1)
    assert next(found.lines()) == "quickstart version 3, round 3"


def test_a_round_before_a_change_of_the_plan_is_computed_with_the_plan_of_then(home: Path) -> None:
    changed = small_plan("rounds=5", "algorithm.local.optimizer.learning_rate=0.05")
    train(changed, run_key="interrupted", accept_change=True)
    remove_weights("3", "4")
    found = replayed("quickstart@latest")
    assert (found.agrees, found.round, found.since) == (True, 5, 2)


def test_a_training_whose_start_is_gone_is_one_line(home: Path) -> None:
    remove_weights("4", "5")
    line = "quickstart version 4: retention has removed its weights, with which this training began; replay a version"
    with pytest.raises(InputError, match=f"^{line}"):
        replayed("quickstart/6")


def test_weights_exchanged_in_the_parent_are_found_before_anything_is_said(home: Path) -> None:
    stored_file("2", STATE).write_bytes(stored_file("3", STATE).read_bytes())
    with pytest.raises(TrainingError, match="round 2: its weights are not those recorded; roundhouse verify says more"):
        replayed("quickstart/3")


def test_weights_of_the_parent_that_cannot_be_read_are_one_line(home: Path) -> None:
    stored_file("2", STATE).write_bytes(b"no safetensors")
    with pytest.raises(TrainingError, match="round 2"):
        replayed("quickstart/3")


def test_a_record_that_was_changed_is_not_replayed(home: Path) -> None:
    signed = json.loads(stored_file("2", RECORD).read_bytes())
    signed["said"]["weights_sha256"] = "0" * 64
    stored_file("2", RECORD).write_bytes(json.dumps(signed).encode())
    for version in ("2", "3"):
        with pytest.raises(ForgedError):
            replayed(f"quickstart/{version}")


def test_a_version_that_is_not_there_is_one_line(trained: Path) -> None:
    with at(trained), pytest.raises(InputError, match=r"^quickstart/99: there is none"):
        replayed("quickstart/99")
