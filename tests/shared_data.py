"""Where the real data sets lie, for tests that use them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def shared_data(name: str) -> Path:
    """The folder of a data set; a test without it is skipped.

    It lies in ``$ROUNDHOUSE_DATA``, or in ``shared/data`` beside the project.
    """
    folder = Path(os.environ.get("ROUNDHOUSE_DATA", _BESIDE)) / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; set ROUNDHOUSE_DATA to the folder that holds {name}")
    return folder
