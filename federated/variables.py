"""Values that a plan takes from the environment, written ``${NAME}``: plans are kept and shown, it is not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from federated.errors import PlanError

_NAMED = re.compile(r"\$\{(\w+)\}")


def option(name: str, value: Any) -> Any:
    """An option's value: the environment's, where it is ``${NAME}`` and nothing else.

    Raises:
        PlanError: the environment has no such name.
    """
    found = _NAMED.fullmatch(value) if isinstance(value, str) else None
    return value if found is None else _value(f"option {name}", found[1])


def location(field: str, path: Path) -> Path:
    """A path, in which every ``${NAME}`` is the environment's and ``~`` is the user's folder.

    Raises:
        PlanError: the environment has no such name.
    """
    return Path(_NAMED.sub(lambda found: _value(field, found[1]), str(path))).expanduser()


def _value(whose: str, name: str) -> str:
    if name not in os.environ:
        raise PlanError(f"{whose}: the environment has no {name}; set it, or write what it would be")
    return os.environ[name]
