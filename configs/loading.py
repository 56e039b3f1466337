"""From a name or a path, and overrides, to a plan; and from a refusal to one clear line a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from configs.plan import Plan
from federated.errors import PlanError
from federated.words import NUMBER, WORD

SHIPPED = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """The plans that come with the project, by name; one in a folder is called ``folder/name``."""
    return {path.relative_to(SHIPPED).with_suffix("").as_posix(): path for path in sorted(SHIPPED.rglob("*.yaml"))}


def load_plan(plan: str, overrides: Sequence[str] = ()) -> Plan:
    """The plan called ``plan`` (a shipped name, or a path), with overrides such as ``rounds=5``.

    Raises:
        PlanError: there is no such plan, or something in it is wrong.
    """
    return _validate(_read(_find(plan)), overrides)


def resolve_plan(plan: Plan | str, overrides: Sequence[str] = ()) -> Plan:
    """``plan`` itself, or the one that it names, with overrides.

    Raises:
        PlanError: as ``load_plan``.
    """
    if isinstance(plan, str):
        return load_plan(plan, overrides)
    fields = plan.model_dump(mode="json")
    return _validate(fields, overrides) if overrides else plan


def plan_of(fields: dict[str, Any]) -> Plan:
    """The plan with these fields, as a record has them.

    Raises:
        PlanError: something in it is wrong.
    """
    return _validate(fields, ())


def explain(error: ValidationError) -> Iterator[str]:
    """One line a fault: the field's path, what is wrong, what to do."""
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"] if not _is_tag(part))
        yield f"{path}: {_reason(fault, error)}" if path else _reason(fault, error)


def _is_tag(part: int | str) -> bool:
    """Whether it is how pydantic tells the members of a union apart, which is no part of a path."""
    return part in (WORD.tag, NUMBER.tag, "str", "int", "float") or "[" in str(part)


def _validate(fields: dict[str, Any], overrides: Sequence[str]) -> Plan:
    for override in overrides:
        _override(fields, override)
    try:
        return Plan.model_validate(fields)
    except ValidationError as error:
        raise PlanError("\n".join(explain(error))) from error


def _find(plan: str) -> Path:
    names = shipped()
    if plan in names:
        return names[plan]
    path = Path(plan)
    if path.is_file():
        return path
    close = get_close_matches(plan, names)
    hint = f"did you mean {close[0]!r}?" if close else f"shipped plans: {', '.join(names)}"
    raise PlanError(f"there is no plan {plan!r}; {hint}")


def _read(path: Path) -> dict[str, Any]:
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise PlanError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise PlanError(f"{path}: expected a mapping of fields, got {type(fields).__name__}")
    return fields


def _override(fields: Any, override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals:
        raise PlanError(f"--set {override}: expected path=value, for example rounds=5")
    *parents, last = path.split(".")
    for part in parents:
        fields = _step_into(fields, part, override)
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise PlanError(f"--set {override}: {value!r} is no YAML value") from error
    if isinstance(fields, list):
        fields[_index(fields, last, override)] = parsed
    elif isinstance(fields, dict):
        fields[last] = parsed
    else:
        raise PlanError(f"--set {override}: {'.'.join(parents)} has no fields")


def _step_into(fields: Any, part: str, override: str) -> Any:
    if isinstance(fields, list):
        return fields[_index(fields, part, override)]
    if not isinstance(fields, dict):
        raise PlanError(f"--set {override}: there is no {part!r} to go into")
    if fields.get(part) is None:
        fields[part] = {}
    return fields[part]


def _index(items: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise PlanError(f"--set {override}: {part!r} is no position in a list of {len(items)}; the first is 0")
    return int(part)


def _reason(fault: Mapping[str, Any], error: ValidationError) -> str:
    kind, context, given = fault["type"], fault.get("ctx", {}), fault["input"]
    if kind == "union_tag_invalid":
        return f"unknown kind {context['tag']!r}; expected one of {context['expected_tags']}"
    if kind == "union_tag_not_found":
        return "expected a mapping with a kind"
    if kind in ("model_type", "model_attributes_type"):
        kinds = f"a kind, such as {{kind: {given}}}" if isinstance(given, str) else "fields"
        return f"expected a mapping with {kinds}, got {given!r}"
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"unknown field{_close_field(fault)}"
    if kind == "value_error":
        return str(context["error"])
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{message}, got {given!r}"


def _close_field(fault: Mapping[str, Any]) -> str:
    """A hint at the field that was meant, where one is close."""
    fields = _fields_at(fault["loc"][:-1])
    close = get_close_matches(str(fault["loc"][-1]), fields)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; expected one of {', '.join(fields)}" if fields else ""


def _fields_at(path: tuple[Any, ...]) -> list[str]:
    """The fields that the plan's JSON schema has at a pydantic error location."""
    schema = Plan.model_json_schema()
    definitions = schema["$defs"]
    node: dict[str, Any] = schema
    for part in path:
        node = _descend(node, part, definitions)
    return list(node.get("properties", {}))


def _descend(node: dict[str, Any], part: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if isinstance(part, int):
        return _resolve(node.get("items", {}), definitions)
    if "discriminator" in node:
        reference = node["discriminator"]["mapping"].get(part, "")
        return definitions.get(reference.rpartition("/")[2], {})
    return _resolve(node.get("properties", {}).get(part, {}), definitions)


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "discriminator" in node:
        return node
    for option in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
        if "$ref" in option:
            return definitions[option["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return node
