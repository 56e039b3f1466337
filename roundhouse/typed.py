"""Commands as the reader can type them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def typed(command: str) -> str:
    """``command`` by name, or by its path where the shell would not find this environment's."""
    own = Path(sys.executable).parent / command
    found = shutil.which(command)
    if (found is not None and Path(found).resolve() == own.resolve()) or not own.exists():
        return command
    return shlex.quote(os.path.relpath(own))
