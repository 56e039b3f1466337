"""Is a server there?"""

from __future__ import annotations

import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException

from configs.environment import without_secrets

_SECONDS = 15  # a busy server on SQLite takes a while


def require(url: str, server: str, variable: str, error: type[Exception]) -> None:
    """Asks ``url`` once; any answer will do, but for one that the server is broken (5xx).

    Raises:
        error: nobody answers, or the server is broken.
    """
    asked = without_secrets(url)
    try:
        urllib.request.urlopen(asked, timeout=_SECONDS).close()
    except (HTTPException, OSError, ValueError) as failure:
        if isinstance(failure, urllib.error.HTTPError) and failure.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return
        reason = str(getattr(failure, "reason", failure)).strip()
        raise error(
            f"{server} cannot be reached at {asked} ({reason}); start it, "
            f"correct {variable}, or unset it to run without a server"
        ) from failure
