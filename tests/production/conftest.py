"""PostgreSQL, an S3 store, Prefect and MLflow, as ``docs/operations.md`` sets them up: one set for all tests here."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.config import Config

from tests.production.documented import Documented
from tests.production.servers import MISSING, free_ports, module, postgresql, run, running, wait_for
from tests.roundhouse.commands import environment

QUICK = ("train", "quickstart", "--set", "rounds=3", "--set", "baselines=false", "--json")
SUPERUSER_PASSWORD = "of-the-superuser"


class Trained(NamedTuple):
    """A training that ended well."""

    home: Path
    summary: dict[str, Any]
    printed: str


class Production(NamedTuple):
    """Servers that run, and what a client of them needs."""

    documented: Documented
    client: dict[str, str]
    store: str
    database: int
    logs: Path

    def roundhouse(
        self, home: Path, *arguments: str, seconds: float = 300, **changed: str
    ) -> subprocess.CompletedProcess[str]:
        """The command against these servers."""
        env = environment(home, self.client | changed)
        command = module("roundhouse", *arguments)
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)

    def bucket(self) -> Any:
        """The bucket, as the MLflow server sees it."""
        keys = self.documented.settings("mlflow.env")
        return boto3.resource(
            "s3",
            endpoint_url=self.store,
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            region_name=keys["AWS_DEFAULT_REGION"],
            config=Config(proxies={}),
        ).Bucket("roundhouse")

    def leaked(self, *texts: str) -> list[str]:
        """The names of the passwords that stand in texts, or in what the servers wrote."""
        everything = [*texts, *(path.read_text() for path in self.logs.iterdir())]
        return [name for name, secret in self.documented.secrets.items() if any(secret in text for text in everything)]


@pytest.fixture(scope="package")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("production")
    logs = folder / "logs"
    logs.mkdir()
    database, store, prefect, mlflow = free_ports(4)
    addresses = {
        "db.example.com:5432": f"127.0.0.1:{database}",
        "https://s3.example.com": f"http://127.0.0.1:{store}",
        "https://prefect.example.com": f"http://127.0.0.1:{prefect}",
        "https://mlflow.example.com": f"http://127.0.0.1:{mlflow}",
        "--port 4200": f"--port {prefect}",
        "--port 5000": f"--port {mlflow}",
    }
    documented = Documented(addresses)
    client, endpoint = documented.settings("roundhouse.env"), addresses["https://s3.example.com"]
    found = Production(documented, client, endpoint, database, logs)
    for name in ("servers.sql", "auth.ini"):
        (folder / name).write_text(documented.file(name))
    clean = environment(folder)
    with contextlib.ExitStack() as stack:

        def start(name: str, command: list[str], settings: dict[str, str]) -> subprocess.Popen[bytes]:
            return stack.enter_context(running(command, logs / f"{name}.log", clean | settings, folder))

        bucket = start("store", module("moto.server", "--port", str(store)), {})
        stack.enter_context(postgresql(database, SUPERUSER_PASSWORD, logs / "postgresql.log"))
        run(documented.command("psql "), {**clean, "PGPASSWORD": SUPERUSER_PASSWORD}, folder)
        own = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_UI_ENABLED": "false"}
        runs = start(
            "prefect", module(*documented.command("prefect server start")), documented.settings("prefect.env") | own
        )
        wait_for(found.store, bucket, logs / "store.log")
        found.bucket().create()
        models = start("mlflow", module(*documented.command("mlflow server")), documented.settings("mlflow.env"))
        wait_for(f"{found.client['PREFECT_API_URL']}/health", runs, logs / "prefect.log")
        wait_for(f"{found.client['MLFLOW_TRACKING_URI']}/health", models, logs / "mlflow.log")
        run(documented.command("curl --fail"), clean, folder)
        yield found


@pytest.fixture(scope="package")
def trained(production: Production, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    home = tmp_path_factory.mktemp("home")
    done = production.roundhouse(home, *QUICK)
    assert done.returncode == 0, done.stderr
    return Trained(home, json.loads(done.stdout), done.stdout + done.stderr)
