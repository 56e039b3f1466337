"""Where things happen: Prefect tasks, a short call each, and the only code that talks to MLflow."""
