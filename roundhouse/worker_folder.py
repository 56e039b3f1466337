"""The folder in which a worker's runs start."""

from __future__ import annotations

import os
from pathlib import Path

from federated.errors import InputError

VARIABLE = "ROUNDHOUSE_FOLDER"


def enter() -> dict[str, str]:
    """A pull step: the folder that the worker is told, or the checkout that is installed where it runs.

    Without one Prefect takes the path of whoever deployed, which need not be there on the worker's machine.

    Raises:
        InputError: there is no such folder.
    """
    told = os.environ.get(VARIABLE)
    folder = Path(told) if told else Path(__file__).parents[1]
    if not (told or (folder / "pyproject.toml").is_file()) or not folder.is_dir():
        raise InputError(f"{VARIABLE}: set it where the worker runs, to the folder with your plans and .roundhouse")
    return {"directory": str(folder)}
