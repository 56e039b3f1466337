"""What ``docs/operations.md`` tells a user to write and to type, with this test's addresses and passwords."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
_PASSWORD = re.compile(r"[A-Z0-9]+(?:-[A-Z0-9]+)*-SECRET")


class Documented:
    """The page, once its addresses and passwords are filled in."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        page = PAGE.read_text(encoding="utf-8")
        self.secrets = {name: secrets.token_hex(12) for name in sorted(set(_PASSWORD.findall(page)))}
        for written, here in addresses.items():
            page = page.replace(written, here)
        self._page = _PASSWORD.sub(lambda found: self.secrets[found[0]], page)

    def file(self, name: str) -> str:
        """The block that follows the first mention of a file's name."""
        found = re.search(rf"`{re.escape(name)}`.*?```\w+\n(.*?)```", self._page, re.DOTALL)
        assert found is not None, f"{PAGE} has no {name}"
        return found[1]

    def settings(self, name: str) -> dict[str, str]:
        """A file of settings, as a shell reads it."""
        return dict(line.split("=", 1) for line in shlex.split(self.file(name)))

    def command(self, start: str) -> list[str]:
        """The first command line that begins so (a regular expression), as a shell splits it."""
        found = re.search(rf"^\$ ({start}(?:.*\\\n)*.*)$", self._page, re.MULTILINE)
        assert found is not None, f"{PAGE} has no command {start}"
        return shlex.split(found[1], comments=True)
