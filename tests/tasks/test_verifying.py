"""Whatever is changed in a version, or in the rounds before it, is found and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federated.errors import InputError
from flows.train import train
from models.keras_engine import KerasEngine
from tasks.signing import Kind, Signer, read_signed, signer, trusted_keys
from tasks.starting import starting_point
from tasks.stored import Library
from tasks.tracking import START
from tasks.verifying import REMOVED, opened_sound, verify
from tasks.versions import PLACE
from tests.flows.test_train import small_plan
from tests.tasks.test_stored import at, copied, database, new_home, run_file, stored_file

STRANGER = Signer(Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
MODEL, RECORD, SEAL, STATE = "data/model.keras", "round/record.json", "round/seal.json", "round/state.safetensors"
TAGS = (
    "run_id", "run_key", "round", "cohort_size", "cohort", "cohort_sha256",
    "plan_sha256", "code_sha256", "record_sha256", "weights_sha256", "parent_version",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three rounds, versions 1 to 3; and another of one round, version 4."""
    home = new_home(tmp_path_factory.mktemp("verified"), empty_mlflow)
    with at(home):
        train(small_plan("rounds=3"))
        train(small_plan("rounds=1", "algorithm.seed=8"))
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, to spoil."""
    copy = copied(trained, tmp_path)
    with at(copy):
        yield copy


def faults(version: str = "3", public: str = "") -> list[str]:
    """What is wrong with a version of the quickstart."""
    return verify(f"quickstart/{version}", trusted_keys(public)).faults


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def resign(path: Path, by: Signer, **changed: Any) -> None:
    """Signs a file again, with other content."""
    kind: Kind = "record" if path.name == "record.json" else "seal"
    edit(path, lambda content: by.sign(kind, read_signed(content, kind) | changed))


def test_every_version_as_it_was_registered_verifies(trained: Path) -> None:
    with at(trained):
        found = [verify(f"quickstart/{version}", trusted_keys()) for version in "1234"]
        assert [(one.version, one.rounds, one.faults) for one in found] == [
            ("1", 1, []),
            ("2", 2, []),
            ("3", 3, []),
            ("4", 1, []),
        ]
        assert verify("models:/quickstart@candidate", trusted_keys()) == found[3]


# Files


def test_one_byte_of_any_file_is_found(home: Path) -> None:
    paths = ["MLmodel", MODEL, "requirements.txt", STATE]
    for path in paths:
        edit(stored_file("3", path), lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert [fault for fault in faults() if fault.endswith(": changed")] == [f"{path}: changed" for path in paths]
    assert faults("2") == []


def test_weights_that_are_not_those_of_the_record_are_found(home: Path) -> None:
    shutil.copy(stored_file("2", STATE), stored_file("3", STATE))
    assert faults() == [f"{STATE}: changed", f"{STATE}: other weights than recorded"]


def test_weights_that_cannot_be_read_are_found(home: Path) -> None:
    for content in (b"", b"no safetensors", b"\xff" * 64):
        stored_file("3", STATE).write_bytes(content)
        assert f"{STATE}: changed" in faults()


def test_a_file_more_is_found(home: Path) -> None:
    paths = ["code.py", "data/model.keras.py", "round/other.json"]
    for path in paths:
        stored_file("3", path).write_text("import os")
    assert faults() == [f"{path}: was not there when it was sealed" for path in paths]


def test_a_file_less_is_found(home: Path) -> None:
    paths = ["MLmodel", MODEL, "requirements.txt", STATE]
    for path in paths:
        stored_file("3", path).unlink()
    assert faults() == [f"{path}: missing" for path in paths]


def test_all_files_gone_are_found(home: Path) -> None:
    shutil.rmtree(stored_file("3", ""))
    assert faults()


def test_weights_that_retention_removed_and_says_so_are_no_fault(home: Path) -> None:
    for path in (MODEL, STATE):
        stored_file("3", path).unlink()
    Library().client.set_model_version_tag("quickstart", "3", REMOVED, "2026-01-01")
    assert faults() == []


def test_a_version_that_mlflow_has_loaded_still_verifies(home: Path) -> None:
    import mlflow

    Library()
    mlflow.keras.load_model("models:/quickstart/3")
    assert faults() == []


# Tags


def test_every_edited_tag_is_found_with_what_it_was(home: Path) -> None:
    client = Library().client
    before = client.get_model_version("quickstart", "3").tags
    for tag in TAGS:
        client.set_model_version_tag("quickstart", "3", tag, "7")
    assert sorted(faults()) == sorted(f"tag {tag}: recorded as {before[tag]}, found 7" for tag in TAGS)


def test_every_tag_less_is_found(home: Path) -> None:
    client = Library().client
    before = client.get_model_version("quickstart", "3").tags
    for tag in TAGS:
        client.delete_model_version_tag("quickstart", "3", tag)
    assert sorted(faults()) == sorted(f"tag {tag}: recorded as {before[tag]}, found None" for tag in TAGS)


@pytest.mark.parametrize("tag", ["weights_sha256", "parent_version"])
def test_one_edited_tag_is_found_alone(home: Path, tag: str) -> None:
    Library().client.set_model_version_tag("quickstart", "3", tag, "7")
    (fault,) = faults()
    assert fault.startswith(f"tag {tag}: ")


def test_a_round_that_is_no_number_is_found(home: Path) -> None:
    Library().client.set_model_version_tag("quickstart", "3", "round", "three")
    assert "tag round: recorded as 3, found three" in faults()


# MLflow's database


def test_another_models_files_in_a_versions_place_are_found(home: Path) -> None:
    with database(home) as connection:
        (source,) = connection.execute("SELECT source FROM model_versions WHERE version = 2").fetchone()
        connection.execute("UPDATE model_versions SET source = ? WHERE version = 3", (source,))
    assert any(fault.startswith(("tag weights_sha256: recorded as ", "model_id: sealed as ")) for fault in faults())


def test_another_trainings_model_in_a_versions_place_is_found(home: Path) -> None:
    with database(home) as connection:
        (source,) = connection.execute("SELECT source FROM model_versions WHERE version = 4").fetchone()
        connection.execute("UPDATE model_versions SET source = ? WHERE version = 3", (source,))
    assert any(fault.startswith(("run_id: sealed as ", "model_id: sealed as ")) for fault in faults())


def test_what_mlflow_serves_is_what_was_verified(home: Path) -> None:
    """``models:/quickstart/3`` is loaded from ``storage_location``, whatever the source says."""
    with database(home) as connection:
        connection.execute(
            "UPDATE model_versions SET storage_location ="
            " (SELECT m.storage_location FROM model_versions m WHERE m.version = 2) WHERE version = 3"
        )
    assert faults()


def _copy(connection: sqlite3.Connection, version: int, place: int) -> None:
    """Everything that MLflow's database says of a version, in the place of another."""
    connection.execute(
        "UPDATE model_versions SET (source, storage_location) ="
        " (SELECT m.source, m.storage_location FROM model_versions m WHERE m.version = ?) WHERE version = ?",
        (version, place),
    )
    connection.execute(
        "UPDATE model_version_tags SET value = (SELECT t.value FROM model_version_tags t"
        " WHERE t.version = ? AND t.key = model_version_tags.key) WHERE version = ?",
        (version, place),
    )


def test_a_whole_other_version_in_a_versions_place_is_found(home: Path) -> None:
    with database(home) as connection:
        _copy(connection, 2, place=3)
    assert faults()


def test_two_versions_that_changed_places_are_found(home: Path) -> None:
    with database(home) as connection:
        connection.execute("UPDATE model_version_tags SET version = 23 WHERE version = 2")
        connection.execute("UPDATE model_versions SET version = 23 WHERE version = 2")
        for before, after in ((3, 2), (23, 3)):
            connection.execute("UPDATE model_versions SET version = ? WHERE version = ?", (after, before))
            connection.execute("UPDATE model_version_tags SET version = ? WHERE version = ?", (after, before))
        connection.execute("UPDATE model_version_tags SET value = '3' WHERE version = 2 AND key = 'parent_version'")
    assert faults("3") + faults("2")


def test_an_older_version_in_the_place_of_the_newest_is_found(home: Path) -> None:
    with database(home) as connection:
        _copy(connection, 2, place=3)
    Library().client.delete_model_version("quickstart", "2")
    assert faults("3")


def test_another_run_in_a_versions_place_is_found(home: Path) -> None:
    with database(home) as connection:
        (run,) = connection.execute("SELECT run_id FROM model_versions WHERE version = 4").fetchone()
        connection.execute("UPDATE model_versions SET run_id = ? WHERE version = 3", (run,))
    assert any(fault.startswith("run_id: sealed as ") for fault in faults())


# Signatures


def test_a_record_signed_by_another_key_is_found(home: Path) -> None:
    resign(stored_file("3", RECORD), STRANGER)
    said = f"it is signed by the key {STRANGER.public[:12]}…, not by {trusted_keys()[0][:12]}…"
    assert f"its record: {said}" in faults()


def test_what_is_sound_is_not_blamed(home: Path) -> None:
    resign(stored_file("3", RECORD), STRANGER)
    assert not any("seal.json" in fault for fault in faults())


def test_a_seal_signed_by_another_key_is_found(home: Path) -> None:
    resign(stored_file("3", SEAL), STRANGER)
    assert faults() == [f"{SEAL}: it is signed by the key {STRANGER.public[:12]}…, not by {trusted_keys()[0][:12]}…"]


@pytest.mark.parametrize("path", [RECORD, SEAL])
def test_a_signed_file_that_is_nonsense_or_gone_is_found(home: Path, path: str) -> None:
    file = stored_file("3", path)
    for content in (b"", b"{}", b"[1]", b"null", b"\xff"):
        file.write_bytes(content)
        assert any("the signature does not fit" in fault for fault in faults()), content
    file.unlink()
    assert any("the signature does not fit" in fault for fault in faults())


@pytest.mark.parametrize("path", [RECORD, SEAL])
def test_one_changed_number_under_a_good_signature_is_found(home: Path, path: str) -> None:
    def change(content: bytes) -> bytes:
        signed = json.loads(content)
        signed["said"] |= {"round": 2, "model_id": "m-1"}
        return json.dumps(signed).encode()

    edit(stored_file("3", path), change)
    assert any("the signature does not fit: it was changed" in fault for fault in faults())


def test_another_public_key_trusts_nothing_here(trained: Path) -> None:
    with at(trained):
        found = faults("3", STRANGER.public)
        assert found
        assert all(f"not by {STRANGER.public[:12]}…" in fault for fault in found)


SWAPS = {
    "a seal as the place": (SEAL, PLACE, f"tag {PLACE}: it is a signed seal, not a place"),
    "a record as the place": (RECORD, PLACE, f"tag {PLACE}: it is a signed record, not a place"),
    "a record as the seal": (RECORD, SEAL, f"{SEAL}: it is a signed record, not a seal"),
    "a place as the seal": (PLACE, SEAL, f"{SEAL}: it is a signed place, not a seal"),
    "a seal as the record": (SEAL, RECORD, "its record: it is a signed seal, not a record"),
    "a place as the record": (PLACE, RECORD, "its record: it is a signed place, not a record"),
}


@pytest.mark.parametrize(("taken", "into", "fault"), SWAPS.values(), ids=SWAPS)
def test_what_was_signed_as_something_else_is_a_fault_by_name(home: Path, taken: str, into: str, fault: str) -> None:
    client = Library().client
    signed = client.get_model_version("quickstart", "3").tags[PLACE] if taken == PLACE else None
    content = stored_file("3", taken).read_bytes() if signed is None else signed.encode()
    if into == PLACE:
        client.set_model_version_tag("quickstart", "3", PLACE, content.decode())
    else:
        stored_file("3", into).write_bytes(content)
    assert fault in faults()


# The rounds before


def test_a_record_replaced_in_the_middle_of_the_chain_is_found(home: Path) -> None:
    """By one that the same key signed: only the record after it tells."""
    resign(stored_file("2", RECORD), signer(), seconds=0.0)
    assert faults("3") == ["round 2: the record is not the one that round 3 names"]
    assert f"{RECORD}: changed" in faults("2")
    assert faults("1") == []


def test_the_record_of_another_round_in_the_middle_of_the_chain_is_found(home: Path) -> None:
    shutil.copy(stored_file("1", RECORD), stored_file("2", RECORD))
    assert faults("3") == ["round 2: the record is not the one that round 3 names"]


def test_a_round_that_was_taken_out_is_found(home: Path) -> None:
    Library().client.delete_model_version("quickstart", "2")
    assert faults("3") == ["round 2: the record is not the one that round 3 names"]
    assert faults("1") == []


def test_a_version_that_passes_itself_off_as_the_round_before_is_found(home: Path) -> None:
    Library().client.delete_model_version("quickstart", "2")
    Library().client.set_model_version_tag("quickstart", "1", "round", "2")
    assert faults("3") == ["round 2: the record is not the one that round 3 names"]


def test_a_start_that_was_exchanged_is_found_by_every_version(home: Path) -> None:
    shutil.copy(run_file("4", START), run_file("1", START))
    for version, number in (("1", 1), ("2", 2), ("3", 3)):
        assert verify(f"quickstart/{version}", trusted_keys()).rounds == 0
        assert faults(version) == ["round 0: the record is not the one that round 1 names"], number
    assert faults("4") == []


def test_a_start_that_is_gone_is_found(home: Path) -> None:
    run_file("3", START).unlink()
    assert faults("3") == ["round 0: the record is not the one that round 1 names"]


# The key


def test_after_a_new_key_versions_of_the_old_one_are_sound_where_it_is_trusted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = signer().public
    shutil.rmtree(home / "keys")
    new = signer().public
    assert any(f"signed by the key {old[:12]}…, not by {new[:12]}…" in fault for fault in faults())
    monkeypatch.setenv("ROUNDHOUSE_TRUSTED_KEYS", old)
    assert faults() == []
    with opened_sound("quickstart/3") as found:
        assert [record["round"] for record in found.records] == [3, 2, 1, 0]
    plan = small_plan("start={kind: version, version: 3}")
    federation = plan.federation()
    start = starting_point(plan, KerasEngine(plan.model, federation.inputs, federation.classes))
    assert start is not None
    assert start.version == "3"


def test_the_key_that_is_given_is_the_only_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUNDHOUSE_TRUSTED_KEYS", signer().public)
    assert faults("3", STRANGER.public)


def test_a_home_without_a_key_asks_for_one_and_makes_none(home: Path) -> None:
    public = signer().public
    shutil.rmtree(home / "keys")
    with pytest.raises(InputError, match=r"there is no signing key at .*signing\.pem; give the public one with --key"):
        faults()
    assert faults("3", public) == []
    assert not (home / "keys").exists()
