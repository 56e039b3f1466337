"""The README's own examples, run as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from configs.loading import SHIPPED
from tests.roundhouse.commands import roundhouse

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def block(after: str) -> str:
    """The first code block behind a piece of text."""
    found = re.search(r"```\w+\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


def test_your_own_data_and_rule_train_as_the_readme_writes_them(
    warm_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("my_data.py", "my-plan.yaml", "my_rule.py"):
        (tmp_path / name).write_text(block(f"`{name}`"))
    monkeypatch.chdir(tmp_path)
    done = roundhouse(warm_home, "train", "my-plan.yaml", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["test_accuracy"] > 0.8


def test_the_plan_in_the_readme_is_the_one_that_ships() -> None:
    assert block("## A plan").strip() == (SHIPPED / "quickstart.yaml").read_text().strip()


def test_every_link_in_the_readme_leads_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(links) > 5
    assert [link for link in links if not (Path(__file__).parent.parent / link).exists()] == []
