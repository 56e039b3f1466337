"""``roundhouse promote``, ``rollback``, ``verify`` and ``replay`` as a user or a CI job meets them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.train import train
from roundhouse.cli import app
from tasks.stored import Library
from tests.flows.test_train import SMALL, small_plan
from tests.roundhouse.commands import roundhouse
from tests.tasks.test_stored import at, copied, new_home, stored_file

PLAN = ("quickstart", *(argument for override in SMALL for argument in ("--set", override)))
NO_GATES = ("--set", "promotion.gates=[]")
UNJUDGED = "the plan has no gates: nothing was compared\n"
STRICT = "[{kind: schema}, {kind: at_least, metric: accuracy, value: 0.999}, {kind: size, megabytes: 10}]"
STRICT_GATES = ("--set", f"promotion.gates={STRICT}")
STRANGER = "A" * 43 + "="


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture(scope="module")
def trained(prefect_api: None, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of three rounds, versions 1 to 3."""
    home = new_home(tmp_path_factory.mktemp("commanded"), empty_mlflow)
    with at(home):
        train(small_plan())
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, in which nothing has been promoted."""
    copy = copied(trained, tmp_path)
    with at(copy):
        yield copy


@pytest.fixture
def server() -> dict[str, str]:
    """The tests' own Prefect: a command that starts one takes ten seconds more."""
    from prefect.settings import PREFECT_API_URL

    return {"PREFECT_API_URL": str(PREFECT_API_URL.value())}


@pytest.fixture
def command(
    home: Path, server: dict[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The command in this process, where TensorFlow has started already."""

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        with open(1, "w", closefd=False) as out, open(2, "w", closefd=False) as err, monkeypatch.context() as patch:
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            patch.setenv("PREFECT_API_URL", server["PREFECT_API_URL"])
            with pytest.raises(SystemExit) as ended:
                app(list(arguments))
        return Done(int(ended.value.code or 0), *capfd.readouterr())

    return run


def aliases() -> dict[str, str]:
    """Which version each alias stands for."""
    found = Library().client.get_registered_model("quickstart").aliases
    return {alias: str(version) for alias, version in found.items()}


# Promote and roll back


def test_a_refusal_ends_with_3_and_a_table_of_the_gates(command: Command) -> None:
    done = command("promote", *PLAN, *STRICT_GATES)
    assert done.code == 3, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["gate", "passed", "measured", "allowed", "reason"]
    assert [line.split()[0] for line in lines[1:4]] == ["schema", "at_least", "size"]
    assert lines[4:] == [
        "refused: at_least accuracy: accuracy is too low",
        "quickstart: champion none, previous none",
    ]
    assert done.err == ""
    assert aliases() == {"candidate": "3"}


def test_a_promotion_ends_with_0_and_says_who_serves_and_a_rollback_too(command: Command) -> None:
    assert (
        command("promote", *PLAN, *NO_GATES, "--version", "2").out
        == f"quickstart: champion 2, previous none\n{UNJUDGED}"
    )
    done = command("promote", *PLAN, *NO_GATES)
    assert done == (0, f"quickstart: champion 3, previous 2\n{UNJUDGED}", "")
    assert aliases() == {"champion": "3", "previous": "2"}
    assert command("rollback", "quickstart") == (0, "quickstart: champion 2, previous 3\n", "")
    assert aliases() == {"champion": "2", "previous": "3"}


def test_json_is_one_object(command: Command) -> None:
    refused = command("promote", *PLAN, *STRICT_GATES, "--json")
    said = json.loads(refused.out)
    assert (refused.code, refused.out.count("\n"), refused.err) == (3, 1, "")
    assert (said["promoted"], said["version"], said["champion"]) == (False, "3", None)
    assert said["reasons"] == ["at_least accuracy: accuracy is too low"]
    assert [verdict["gate"] for verdict in said["verdicts"] if not verdict["passed"]] == ["at_least accuracy"]
    assert json.loads(command("promote", *PLAN, *NO_GATES, "--json").out)["champion"] == "3"


def test_where_a_person_is_asked_only_approve_promotes(command: Command) -> None:
    asked = ("promote", *PLAN, *NO_GATES, "--set", "promotion.approval=true")
    refused = command(*asked)
    assert refused.code == 3
    assert "refused: approval: a person must approve; --approve says that one has" in refused.out
    assert aliases() == {"candidate": "3"}
    assert command(*asked, "--approve").code == 0
    assert aliases() == {"champion": "3"}


def test_a_rollback_with_nothing_to_go_back_to_is_one_line_and_ends_with_2(command: Command) -> None:
    line = "error: quickstart: there is no previous champion to go back to\n"
    assert command("rollback", "quickstart") == (2, "", line)
    command("promote", *PLAN, *NO_GATES)
    assert command("rollback", "quickstart") == (2, "", line)
    assert aliases() == {"champion": "3"}


def test_a_version_that_is_not_there_is_one_line_and_ends_with_2(command: Command) -> None:
    line = "error: quickstart/9: there is none; roundhouse models lists what there is\n"
    assert command("promote", *PLAN, "--version", "9") == (2, "", line)
    assert command("verify", "quickstart/9") == (2, "", line)


def test_a_version_that_was_changed_is_one_line_and_ends_with_1(command: Command) -> None:
    with stored_file("3", "data/model.keras").open("ab") as file:
        file.write(b"more")
    done = command("promote", *PLAN, *NO_GATES)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: quickstart/3 is not what its training registered: data/model.keras: changed; "
        "roundhouse verify quickstart/3\n"
    )
    assert aliases() == {"candidate": "3"}


@pytest.mark.parametrize("arguments", [("promote", *PLAN), ("rollback", "quickstart")])
def test_an_mlflow_that_is_away_is_one_line_and_ends_with_1(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = command(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: MLflow cannot be reached at http://127.0.0.1:9/health")
    assert done.err.count("\n") == 1


def test_a_rollback_to_a_changed_version_ends_with_1_and_force_does_it(command: Command) -> None:
    for version, alias in (("3", "champion"), ("2", "previous")):
        Library().client.set_registered_model_alias("quickstart", alias, version)
    with stored_file("2", "data/model.keras").open("ab") as file:
        file.write(b"more")
    done = command("rollback", "quickstart")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.endswith("; --force rolls back all the same\n")
    assert command("rollback", "quickstart", "--force") == (0, "quickstart: champion 2, previous 3\n", "")


def test_what_is_no_run_key_is_one_line_and_ends_with_2(command: Command) -> None:
    done = command("promote", *PLAN, "--run-key", "a'b")
    line = 'error: --run-key "a\'b": expected up to 80 letters, digits, dots, dashes and underscores\n'
    assert (done.code, done.out, done.err) == (2, "", line)


@pytest.mark.slow
def test_two_promotions_at_once_follow_one_another_and_lose_nothing(home: Path, server: dict[str, str]) -> None:
    """Each in a process of its own."""
    Library().client.set_registered_model_alias("quickstart", "champion", "1")

    def promote(version: str) -> subprocess.CompletedProcess[str]:
        return roundhouse(home, "promote", *PLAN, *NO_GATES, "--version", version, extra=server)

    with ThreadPoolExecutor() as pool:
        ended = dict(zip("23", pool.map(promote, "23"), strict=True))
    assert [(done.returncode, done.stderr) for done in ended.values()] == [(0, "")] * 2
    found = aliases()
    first, second = found["previous"], found["champion"]
    assert {first, second} == {"2", "3"}
    assert set(found) == {"champion", "previous"}
    assert ended[first].stdout == f"quickstart: champion {first}, previous 1\n{UNJUDGED}"
    assert ended[second].stdout == f"quickstart: champion {second}, previous {first}\n{UNJUDGED}"


# Verify


def test_a_sound_version_ends_with_0(home: Path) -> None:
    done = roundhouse(home, "verify", "quickstart@candidate")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "quickstart version 3: files, tags and 3 rounds verified\n",
        "",
    )


def test_every_fault_is_a_line_and_ends_with_1(command: Command) -> None:
    stored_file("3", "extra.py").write_text("import os")
    Library().client.set_model_version_tag("quickstart", "3", "weights_sha256", "7")
    done = command("verify", "quickstart/3")
    lines = done.err.splitlines()
    assert (done.code, done.out, len(lines)) == (1, "", 2)
    assert lines[0] == "fault: extra.py: was not there when it was sealed"
    assert lines[1].startswith("fault: tag weights_sha256: recorded as ")


def test_verify_gives_json_sound_or_not(command: Command) -> None:
    done = command("verify", "quickstart/2", "--json")
    assert (done.code, done.err) == (0, "")
    sound: dict[str, Any] = json.loads(done.out)
    assert (sound["name"], sound["version"], sound["rounds"], sound["faults"]) == ("quickstart", "2", 2, [])
    stored_file("2", "extra.py").write_text("import os")
    done = command("verify", "quickstart/2", "--json")
    assert (done.code, done.err) == (1, "")
    assert json.loads(done.out)["faults"] == ["extra.py: was not there when it was sealed"]


def test_another_key_trusts_nothing_and_ends_with_1(command: Command) -> None:
    done = command("verify", "quickstart/3", "--key", STRANGER)
    assert done.code == 1
    assert f"not by {STRANGER[:12]}…" in done.err


def test_what_is_no_key_is_bad_input_and_not_a_fault_of_the_version(command: Command) -> None:
    done = command("verify", "quickstart/3", "--key", "my-key")
    assert done.code == 2
    assert "--key" in done.err


def test_a_home_without_a_key_asks_for_one_and_ends_with_2(home: Path, command: Command) -> None:
    shutil.rmtree(home / "keys")
    for name in ("verify", "replay"):
        done = command(name, "quickstart/3")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("error: there is no signing key at ")
        assert done.err.endswith("give the public one with --key\n")
    assert not (home / "keys").exists()


def test_verify_says_in_one_line_that_mlflow_is_away(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = command("verify", "quickstart/3")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "http://127.0.0.1:9" in done.err


# Replay


def test_a_replay_ends_with_0_and_the_same_bits(command: Command) -> None:
    done = command("replay", "quickstart/3")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "the same bits"
    said = json.loads(command("replay", "quickstart/1", "--json").out)
    assert (said["agrees"], said["round"], said["recorded"]) == (True, 1, said["computed"])


def test_a_replay_that_comes_out_differently_ends_with_1_and_names_the_clients(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a change of the data: everybody's images are a little brighter."""
    from federated.sources import Digits

    load = Digits.load

    def brighter(self: Digits) -> Any:
        found = load(self)
        found.rows.x[...] += 1
        return found

    monkeypatch.setattr(Digits, "load", brighter)
    done = command("replay", "quickstart/3")
    assert (done.code, done.err) == (1, "")
    (named,) = [line for line in done.out.splitlines() if line.startswith("updates that differ: client-")]
    assert named.count("client-") == 4
    assert done.out.endswith("\nDIFFERENT\n")


def test_a_record_that_was_changed_is_one_line_and_ends_with_1(command: Command) -> None:
    record = stored_file("2", "round/record.json")
    record.write_bytes(record.read_bytes().replace(b'"round": 2', b'"round": 3'))
    done = command("replay", "quickstart/2")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: its record: the signature does not fit: it was changed\n"
