"""When things happen: Prefect flows. Order and fan-out, no arithmetic."""

from configs import environment

# Prefect and MLflow read their settings when they are imported, so this comes first.
environment.quieten()
