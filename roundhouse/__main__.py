"""``python -m roundhouse``."""

from roundhouse.cli import app

app()
