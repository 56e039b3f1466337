"""``roundhouse``, and ``python -m roundhouse``."""

import contextlib
import os
import sys


def main() -> None:
    """Runs the command; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from roundhouse.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        if "prefect" in sys.modules:
            _leave(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _leave(code: int) -> None:
    """At once: what Prefect's server takes it has by now, and for one that is away Prefect would wait for hours."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
