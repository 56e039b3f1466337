"""``roundhouse``, and ``python -m roundhouse``."""

import sys


def main() -> None:
    """Runs the command; Ctrl-C while it is still being imported ends it as quietly as later."""
    try:
        from roundhouse.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
