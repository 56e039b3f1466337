"""The names that trainings go by."""

from __future__ import annotations

import re

from federated.errors import InputError

_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def require_run_key(run_key: str) -> None:
    """
    Raises:
        InputError: it cannot be part of a path.
    """
    if not _RUN_KEY.fullmatch(run_key):
        raise InputError(f"--run-key {run_key!r}: expected up to 80 letters, digits, dots, dashes and underscores")
