"""Where things are kept, and the settings that other packages read from the environment."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from federated.errors import InputError

QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # What MLflow sends again by itself it may store twice: trainings look first, and then send again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    # A line for every finished task is eight a round, each a request; the states say the same.
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""No telemetry, no chatter from libraries, and nothing sent twice."""


OWN_PREFECT = "ROUNDHOUSE_OWN_PREFECT"
"""The variable with the URL of the Prefect that this process has started for itself."""


def quieten() -> None:
    """Puts ``QUIET`` into the environment, but for what the user has set. Call it before Prefect is imported."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def home() -> Path:
    """``$ROUNDHOUSE_HOME``, or ``.roundhouse`` in the current folder: databases and models of embedded runs.

    Raises:
        InputError: its path cannot be part of a database URL.
    """
    folder = Path(os.environ.get("ROUNDHOUSE_HOME") or ".roundhouse").expanduser().absolute()
    if set("?%") & set(str(folder)):
        raise InputError(f"ROUNDHOUSE_HOME: {folder} has a ? or a %, which database URLs cannot hold; move it")
    return folder


def prefect_home() -> Path:
    """Prefect's database of embedded runs, and of the servers that ``roundhouse up`` starts."""
    return home() / "prefect"


def prefect_is_a_server() -> bool:
    """Whether ``PREFECT_API_URL`` names a server that others use too, not this process' own."""
    url = os.environ.get("PREFECT_API_URL")
    return bool(url) and url != os.environ.get(OWN_PREFECT)


def log_file() -> Path:
    """What libraries say during this process' training goes here."""
    return home() / "logs" / f"train-{os.getpid()}.log"


def lock(what: str) -> FileLock:
    """Held while ``what`` is made in ``home()``, so that two commands at a time do not make it twice."""
    home().mkdir(parents=True, exist_ok=True)
    return FileLock(home() / f"{what}.lock")


def without_secrets(url: str) -> str:
    """A URL to show: without user and password."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def tracking_uri() -> str:
    """``$MLFLOW_TRACKING_URI``, or a SQLite file in ``home()``."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_tracking_uri()


def artifact_root() -> str | None:
    """Where embedded runs keep artifacts; None where an MLflow server decides."""
    embedded = tracking_uri() == embedded_tracking_uri()
    return (home() / "artifacts").as_uri() if embedded else None


def embedded_tracking_uri() -> str:
    """MLflow's database in ``home()``."""
    return f"sqlite:///{embedded_database()}"


def write_ahead() -> None:
    """Gives MLflow's database in ``home()`` a write-ahead log, as Prefect gives its own.

    A commit waits for the disk once in place of three times, and readers and writers do not wait for each other.
    """
    in_use = contextlib.suppress(sqlite3.OperationalError)  # it goes on as it is
    with in_use, contextlib.closing(sqlite3.connect(embedded_database())) as database:
        database.execute("PRAGMA journal_mode=WAL")


def embedded_database() -> Path:
    """The file of MLflow's database in ``home()``."""
    return home() / "mlflow.db"


def checkpoints() -> str:
    """``$ROUNDHOUSE_CHECKPOINTS``, a folder in any fsspec store; or a folder in ``home()``."""
    return os.environ.get("ROUNDHOUSE_CHECKPOINTS") or str(home() / "checkpoints")


SIMULATIONS = "simulations"
"""The folder of ledgers that nobody real has paid into: no population is called so."""


def privacy_ledger(population: str, simulated: bool = False) -> Path:
    """Where it is written what a data population has paid."""
    return home() / "privacy" / (SIMULATIONS if simulated else "") / f"{population}.db"


def signing_key() -> Path:
    """``$ROUNDHOUSE_SIGNING_KEY``, or a file in ``home()``: the Ed25519 key that signs what trainings record."""
    return Path(os.environ.get("ROUNDHOUSE_SIGNING_KEY") or own_signing_key())


def trusted_keys() -> list[str]:
    """``$ROUNDHOUSE_TRUSTED_KEYS``, comma-separated: public keys that are trusted besides that of this home."""
    given = os.environ.get("ROUNDHOUSE_TRUSTED_KEYS", "")
    return [key.strip() for key in given.split(",") if key.strip()]


def own_signing_key() -> Path:
    """The key that is made where none is given."""
    return home() / "keys" / "signing.pem"


def workers() -> int:
    """How many clients train side by side: ``$ROUNDHOUSE_WORKERS``, or one a core. It never changes results.

    Raises:
        InputError: the variable is no positive number.
    """
    asked = os.environ.get("ROUNDHOUSE_WORKERS")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise InputError(f"ROUNDHOUSE_WORKERS: expected a number of at least 1, got {asked!r}")
    return int(asked)
