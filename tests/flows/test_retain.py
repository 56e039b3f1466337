"""Weights go by the plan's policy; versions that serve, and all that is known of any, stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from federated.errors import InputError, TrackingError
from flows.promote import promote
from flows.retain import retain
from flows.train import train
from roundhouse.cli import app
from tasks.aliases import move_aliases
from tasks.replaying import replay
from tasks.serving import serve_check
from tasks.signing import trusted_keys
from tasks.stored import Library
from tasks.verifying import REMOVED, WEIGHTS, verify
from tests.flows.test_retrain import ROWS, sites_plan, write
from tests.tasks.test_stored import at, copied, new_home, stored_file

ALL = [str(number) for number in range(1, 11)]
LEFT = {"4", "6", "7", "9"}
"""Versions that a policy may take the weights of: 1 was promoted, 2 the canary, 3 the previous champion and 5 the
champion; 8 and 10 are the last of their trainings."""


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of eight rounds, versions 1 to 8; and one of two rounds, 9 and 10."""
    home = new_home(tmp_path_factory.mktemp("retained"), empty_mlflow)
    write(home.parent / "table.csv", ROWS)
    with at(home):
        train(sites_plan(home.parent / "table.csv", "rounds=8"))
        train(sites_plan(home.parent / "table.csv", "rounds=2"))
        for version in "135":
            move_aliases.fn("sites", version)
        Library().client.set_registered_model_alias("sites", "canary", "2")
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, with the sites' table beside it."""
    home = copied(trained, tmp_path)
    write(tmp_path / "table.csv", ROWS)
    with at(home):
        yield home


def retained(home: Path, policy: str) -> list[str]:
    """The versions that lost their weights."""
    plan = sites_plan(home.parent / "table.csv", f"retention={{{policy}}}")
    return list(retain(plan))


def with_weights() -> set[str]:
    """Versions all of whose weights are there; the others have none."""
    there = {version: [stored_file(version, path, "sites").exists() for path in WEIGHTS] for version in ALL}
    assert all(len(set(found)) == 1 for found in there.values()), there
    return {version for version, found in there.items() if all(found)}


def known_of(version: str) -> dict[str, Any]:
    """Everything but the weights and the mark that they are gone."""
    client = Library().client
    found = client.get_model_version("sites", version)
    folder = stored_file(version, "", "sites")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        "files": {name: path.read_bytes() for name, path in files.items() if name not in WEIGHTS},
        "tags": {name: text for name, text in found.tags.items() if name != REMOVED},
        "version": (found.description, found.source, found.run_id, found.status, found.aliases),
        "run": client.get_run(found.run_id).to_dictionary(),
        "loss": client.get_metric_history(found.run_id, "loss"),
    }


def worse_rounds() -> set[str]:
    """Of each training all versions but the one of the smallest loss."""
    library = Library()
    worse = set[str]()
    for last in ("8", "10"):
        run_id = str(library.client.get_model_version("sites", last).run_id)
        losses = {point.step: point.value for point in library.client.get_metric_history(run_id, "loss")}
        best = min(losses, key=losses.__getitem__)
        worse |= {version for number, version in library.of_run("sites", run_id).items() if number != best}
    return worse


@pytest.mark.parametrize(
    ("policy", "removed"),
    [
        ("kind: all", set()),
        ("kind: every, rounds: 2", {"7", "9"}),
        ("kind: every, rounds: 3", {"4", "7", "9"}),
        ("kind: every, rounds: 100", LEFT),
        ("kind: best", None),
        ("kind: promoted", LEFT),
    ],
)
def test_a_policy_takes_what_it_does_not_keep_and_no_version_that_serves_or_is_a_last(
    home: Path, policy: str, removed: set[str] | None
) -> None:
    expected = LEFT & worse_rounds() if removed is None else removed
    assert set(retained(home, policy)) == expected
    assert with_weights() == set(ALL) - expected
    assert {version for version in ALL if REMOVED in known(version)} == expected


def known(version: str) -> dict[str, str]:
    return dict(Library().client.get_model_version("sites", version).tags)


def test_the_champion_the_previous_one_and_one_before_them_still_serve(home: Path) -> None:
    retained(home, "kind: promoted")
    assert [serve_check(f"sites/{version}").shape for version in "135"] == [(2, 1)] * 3


def test_all_that_is_known_of_a_version_stays(home: Path) -> None:
    before = {version: known_of(version) for version in ALL}
    retained(home, "kind: promoted")
    assert {version: known_of(version) for version in ALL} == before


def test_every_version_verifies_and_the_weights_that_are_gone_are_said_to_be(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    retained(home, "kind: promoted")
    found = [verify(f"sites/{version}", trusted_keys()) for version in ALL]
    assert [(one.version, one.faults) for one in found] == [(version, []) for version in ALL]
    assert {one.version for one in found if one.removed} == LEFT
    capfd.readouterr()
    app(["verify", "sites/7"], standalone_mode=False)
    assert capfd.readouterr().out == (
        "sites version 7: files, tags and 7 rounds verified; retention has removed its weights\n"
    )


def test_every_version_replays_whatever_is_gone(home: Path) -> None:
    retained(home, "kind: promoted")
    found = [replay(f"sites/{version}", trusted_keys()) for version in ALL]
    assert all(one.agrees for one in found)
    assert [(one.round, one.since) for one in found][5:9] == [(6, 5), (7, 5), (8, 5), (1, 0)]


def test_a_version_without_weights_is_not_promoted_served_or_started_from(home: Path) -> None:
    retained(home, "kind: promoted")
    line = r"^retention has removed the weights of sites/4; choose a version that has them$"
    table = home.parent / "table.csv"
    with pytest.raises(InputError, match=line):
        promote(sites_plan(table), version="4")
    with pytest.raises(InputError, match=line):
        serve_check("sites/4")
    with pytest.raises(InputError, match=line):
        train(sites_plan(table, "start={kind: version, version: 4}"))
    assert Library().alias("sites", "champion") == "5"
    assert len(Library().of_run("sites", known("4")["run_id"])) == 8


def test_a_second_run_changes_nothing(home: Path) -> None:
    retained(home, "kind: promoted")
    before = {version: (known(version), known_of(version)) for version in ALL}
    assert retained(home, "kind: promoted") == []
    assert {version: (known(version), known_of(version)) for version in ALL} == before
    assert with_weights() == set(ALL) - LEFT


def test_a_policy_that_keeps_more_brings_nothing_back_and_takes_nothing(home: Path) -> None:
    retained(home, "kind: promoted")
    assert retained(home, "kind: all") == []
    assert with_weights() == set(ALL) - LEFT


# A crash in the middle


@contextlib.contextmanager
def breaking_at(deletion: int) -> Iterator[None]:
    """The artifact store refuses its so-manieth deletion."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    delete, asked = LocalArtifactRepository.delete_artifacts, list[str]()

    def refuse(self: Any, artifact_path: Any = None) -> None:
        asked.append(artifact_path)
        if len(asked) == deletion:
            raise OSError("the store is away")
        delete(self, artifact_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalArtifactRepository, "delete_artifacts", refuse)
        yield


@pytest.mark.parametrize("deletion", [1, 2, 8])
def test_what_a_crash_left_the_next_run_finishes(home: Path, deletion: int) -> None:
    with (
        breaking_at(deletion),
        pytest.raises(TrackingError, match=r"sites version \d: the store is away"),
    ):
        retained(home, "kind: promoted")
    assert all(not verify(f"sites/{version}", trusted_keys()).faults for version in LEFT)
    retained(home, "kind: promoted")
    assert with_weights() == set(ALL) - LEFT
    assert {version for version in ALL if REMOVED in known(version)} == LEFT


def test_a_version_that_was_promoted_after_a_crash_keeps_its_weights(home: Path) -> None:
    with breaking_at(1), pytest.raises(TrackingError):
        retained(home, "kind: promoted")
    with contextlib.suppress(InputError):  # to refuse it is as good
        promote(sites_plan(home.parent / "table.csv"), version="7")
    retained(home, "kind: promoted")
    champion = Library().alias("sites", "champion")
    assert champion in with_weights()


def test_a_version_that_was_given_an_alias_after_a_crash_keeps_its_weights(home: Path) -> None:
    with breaking_at(1), pytest.raises(TrackingError):
        retained(home, "kind: promoted")
    Library().client.set_registered_model_alias("sites", "shadow", "7")
    retained(home, "kind: promoted")
    assert "7" in with_weights()
    assert REMOVED not in known("7")  # whole again, so that it can be promoted
