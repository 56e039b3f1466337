"""Is a server there?"""

from __future__ import annotations

import urllib.error
import urllib.request

from configs.environment import without_secrets

_SECONDS = 5


def require(url: str, server: str, variable: str, error: type[Exception]) -> None:
    """Asks ``url`` once; any answer will do.

    Raises:
        error: nobody answers.
    """
    try:
        urllib.request.urlopen(url, timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return
    except (urllib.error.URLError, OSError, ValueError) as failure:
        reason = getattr(failure, "reason", failure)
        raise error(
            f"{server} cannot be reached at {without_secrets(url)} ({reason}); start it, "
            f"correct {variable}, or unset it to run without a server"
        ) from failure
