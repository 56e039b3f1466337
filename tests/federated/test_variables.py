"""What a plan takes from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from federated.errors import PlanError
from federated.variables import location, option


def test_a_name_within_a_path_is_the_environments(monkeypatch) -> None:
    monkeypatch.setenv("HERE", "/data")
    monkeypatch.setenv("WHICH", "heart")
    assert location("data.csv.path", Path("${HERE}/${WHICH}/{client}.csv")) == Path("/data/heart/{client}.csv")


def test_a_path_may_begin_at_the_users_folder(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert location("data.csv.path", Path("~/table.csv")) == Path("/home/somebody/table.csv")


def test_a_path_without_names_is_left_alone() -> None:
    assert location("data.csv.path", Path("a$b/{c}/$D.csv")) == Path("a$b/{c}/$D.csv")


def test_a_name_that_the_environment_lacks_is_told_with_its_field(monkeypatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(PlanError, match=r"^data\.csv\.path: the environment has no NOWHERE; set it, or write"):
        location("data.csv.path", Path("${NOWHERE}/table.csv"))
    with pytest.raises(PlanError, match=r"^option password: the environment has no NOWHERE"):
        option("password", "${NOWHERE}")


def test_an_option_is_the_environments_only_as_a_whole(monkeypatch) -> None:
    monkeypatch.setenv("WORD", "secret")
    assert [option("o", value) for value in ("${WORD}", "a${WORD}", 3, None)] == ["secret", "a${WORD}", 3, None]
