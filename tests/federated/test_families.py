"""The tables of families are complete, and every member is frozen, strict and made of JSON."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

import federated
from tests.federated.families import FAMILIES

ROOT = Path(__file__).parents[2]
MEMBERS = [
    pytest.param(family.union, member, id=repr(member)) for family in FAMILIES.values() for member in family.members
]
FLOAT_FIELDS = [
    pytest.param(type(member), member, field, id=f"{type(member).__name__}.{field}")
    for family in FAMILIES.values()
    for member in family.members
    for field, value in member
    if isinstance(value, float)
]


def test_every_member_of_every_family_is_in_the_tables() -> None:
    modules = [f"federated.{module.name}" for module in pkgutil.iter_modules(federated.__path__)]
    unions = {
        name
        for module in (*modules, "models.keras_datasets")
        for name in vars(importlib.import_module(module))
        if name.startswith("Any") and name != "Any"
    }
    assert set(FAMILIES) == unions
    tested = {name: {type(row) for row in family.members} for name, family in FAMILIES.items()}
    assert tested == {name: family.classes for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_two_members_of_a_family_share_a_kind(name: str) -> None:
    kinds = [member.model_fields["kind"].default for member in FAMILIES[name].classes]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize(("union", "member"), MEMBERS)
def test_a_member_survives_the_journey_through_json(union, member) -> None:
    assert TypeAdapter(union).validate_json(member.model_dump_json()) == member


@pytest.mark.parametrize(("union", "member"), MEMBERS)
def test_a_misspelt_key_is_refused(union, member) -> None:
    with pytest.raises(ValidationError, match="mispelt"):
        TypeAdapter(union).validate_python({**member.model_dump(), "mispelt": 1})


@pytest.mark.parametrize(("union", "member"), MEMBERS)
def test_a_member_cannot_be_changed(union, member) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        member.kind = "other"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("cls", "member", "field"), FLOAT_FIELDS)
def test_no_number_of_a_member_may_be_nan_or_infinite(cls, member, field, wrong) -> None:
    with pytest.raises(ValidationError, match="finite"):
        cls(**{**member.model_dump(), field: wrong})


@pytest.mark.parametrize("name", FAMILIES)
def test_every_member_stands_in_the_documents(name: str) -> None:
    """Of tables and lists: by its kind, as code."""
    written = "".join((ROOT / "docs" / page).read_text() for page in ("plans.md", "life.md"))
    kinds = {cls.model_fields["kind"].default for cls in FAMILIES[name].classes if "kind" in cls.model_fields}
    assert {kind for kind in kinds if not re.search(rf"[`:] ?{kind}\b", written)} == set()
