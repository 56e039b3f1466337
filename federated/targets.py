"""A user's own code, named in a plan as ``package.module:name``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from federated.errors import PlanError

Target = Annotated[str, Field(pattern=r"^[\w.]+:\w+$", description="your own code, as package.module:name")]


def resolve(target: str) -> Callable[..., Any]:
    """The callable that ``package.module:name`` names.

    Raises:
        PlanError: the module cannot be imported, or has no such callable.
    """
    module_name, _, name = target.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise PlanError(
            f"target {target!r}: cannot import {module_name!r} ({error}); "
            "run from the folder that holds it, or install it"
        ) from error
    except AttributeError as error:
        raise PlanError(f"target {target!r}: {module_name!r} has no {name!r}") from error
    if not callable(found):
        raise PlanError(f"target {target!r}: expected a callable, got {type(found).__name__}")
    return found  # type: ignore[no-any-return]
