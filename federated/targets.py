"""A user's own code, named in a plan as ``package.module:name``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from federated.errors import PlanError
from federated.variables import option

Target = Annotated[str, Field(pattern=r"^\w+(\.\w+)*:\w+$", description="your own code, as package.module:name")]

Built = TypeVar("Built")


def build(target: str, expected: type[Built], options: dict[str, Any], *arguments: Any) -> Built:
    """What the callable that ``target`` names makes of ``arguments`` and ``options``.

    An option ``${NAME}`` is the environment's ``NAME``.

    Raises:
        PlanError: there is no such callable, it refuses the options, or it makes something else.
    """
    found = _find(target)
    if isinstance(found, type) and not issubclass(found, expected):
        raise PlanError(f"target {target!r}: expected a {expected.__name__}, got the class {found.__name__}")
    try:
        built = found(*arguments, **_from_environment(options))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise PlanError(f"target {target!r} with options {', '.join(options) or 'none'}: {wrong}") from error
    except (TypeError, ValueError) as error:
        raise PlanError(f"target {target!r} with options {', '.join(options) or 'none'}: {error}") from error
    if not isinstance(built, expected):
        raise PlanError(f"target {target!r}: expected it to give a {expected.__name__}, got {type(built).__name__}")
    return built


def function(target: str, options: dict[str, Any]) -> Callable[..., Any]:
    """The callable that ``target`` names, with ``options``.

    Raises:
        PlanError: there is no such callable.
    """
    return partial(_find(target), **_from_environment(options))


def _from_environment(options: dict[str, Any]) -> dict[str, Any]:
    """Options written ``${NAME}`` are taken from the environment when they are used, so that secrets stay there."""
    return {name: option(name, value) for name, value in options.items()}


def _find(target: str) -> Any:
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises while it is imported
        raise PlanError(
            f"target {target!r}: cannot import {module_name!r} ({type(error).__name__}: {error}); "
            "run from the folder that holds it, or install it"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        what = "has no" if found is None else f"has a value of type {type(found).__name__} and no callable called"
        raise PlanError(f"target {target!r}: {module_name!r} {what} {name!r}")
    return found
