"""A user's own code by name: found, or refused with what is wrong."""

from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from federated.errors import PlanError
from federated.selectors import Selector
from federated.targets import Target, build
from tests.federated.families import USER_CODE


def test_a_target_is_the_callable_that_it_names() -> None:
    assert build("json:dumps", str, {"indent": None}, [1]) == "[1]"
    assert isinstance(build("json.decoder:JSONDecoder", json.JSONDecoder, {}), json.JSONDecoder)


def test_options_that_the_callable_refuses_are_told() -> None:
    with pytest.raises(PlanError, match=r"'json:JSONDecoder' with options colour: .*colour"):
        build("json:JSONDecoder", json.JSONDecoder, {"colour": 1})


def test_fields_that_a_component_of_ones_own_lacks_or_has_not_are_told_in_a_line() -> None:
    said = r"'federated\.selectors:Uniform' with options m: cohort: Field required; m: Extra inputs are not permitted$"
    with pytest.raises(PlanError, match=said):
        build("federated.selectors:Uniform", Selector, {"m": 3})


def test_what_makes_something_else_is_told() -> None:
    with pytest.raises(PlanError, match="expected it to give a dict, got str"):
        build("json:dumps", dict, {}, 1)


def test_a_module_that_is_not_there_is_named_with_a_way_out() -> None:
    expected = r"'no_such\.module:f': cannot import 'no_such\.module'.*run from the folder"
    with pytest.raises(PlanError, match=expected):
        build("no_such.module:f", object, {})


def test_a_name_that_the_module_does_not_have_is_told() -> None:
    with pytest.raises(PlanError, match=r"'json:nothing': 'json' has no 'nothing'"):
        build("json:nothing", object, {})


def test_a_target_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(PlanError, match=r"has a value of type int and no callable called 'NOT_CALLABLE'"):
        build(f"{USER_CODE}:NOT_CALLABLE", object, {})


@pytest.mark.parametrize("name", ["", "json", "json:", ":dumps", ".json:dumps", "json:a.b", "a b:c", "os;x:y"])
def test_a_target_is_spelt_module_colon_name(name) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        TypeAdapter(Target).validate_python(name)


def test_a_module_that_fails_while_it_is_imported_is_not_blamed_for_a_missing_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "breaks_on_import.py").write_text("import json\njson.gone\ndef load(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="gone"):
        build("breaks_on_import:load", object, {})


def test_an_option_is_taken_from_the_environment_where_it_says_so(monkeypatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    assert build("builtins:dict", dict, {"user": "me", "password": "${DB_PASSWORD}"})["password"] == "hunter2"


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(PlanError, match="option password: the environment has no NO_SUCH_VARIABLE"):
        build("builtins:dict", dict, {"password": "${NO_SUCH_VARIABLE}"})


def test_a_refusal_does_not_print_what_the_options_hold() -> None:
    with pytest.raises(PlanError) as refusal:
        build("json:dumps", str, {"password": "hunter2"}, 1)
    assert "hunter2" not in str(refusal.value)


def test_a_class_of_the_wrong_kind_is_refused_before_it_is_made() -> None:
    with pytest.raises(PlanError, match="expected a dict, got the class Popen"):
        build("subprocess:Popen", dict, {"args": ["false"]})
