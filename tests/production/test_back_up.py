"""The back-up of the databases, and their restoration into an empty server, as ``docs/operations.md`` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.production.conftest import SUPERUSER_PASSWORD, Production, Trained
from tests.production.servers import free_ports, postgresql, run
from tests.roundhouse.commands import environment

pytestmark = pytest.mark.slow

COUNTED = {
    "mlflow": "SELECT count(*), min(run_id) FROM model_versions",
    "mlflow_auth": "SELECT count(*), min(username) FROM users",
    "prefect": "SELECT count(*), min(name) FROM flow_run",
}


def test_a_back_up_holds_versions_users_and_flow_runs(production: Production, trained: Trained, tmp_path: Path) -> None:
    documented, env = production.documented, environment(tmp_path)
    for name in COUNTED:
        run(documented.command(f"pg_dump --format=custom --file {name}.dump"), env, tmp_path)
    counts = {name: run(_asking(production, name, production.database), env, tmp_path) for name in COUNTED}
    assert counts["mlflow"] == f"3|{trained.summary['run_id']}\n"
    (empty,) = free_ports(1)
    with postgresql(empty, SUPERUSER_PASSWORD, tmp_path / "postgresql.log"):
        (tmp_path / "servers.sql").write_text(documented.file("servers.sql"))
        commands = [documented.command("psql "), *(documented.command(f"pg_restore .*/{name} ") for name in COUNTED)]
        for command in commands:
            there = [part.replace(f":{production.database}", f":{empty}") for part in command]
            run(there, {**env, "PGPASSWORD": SUPERUSER_PASSWORD}, tmp_path)
        assert {name: run(_asking(production, name, empty), env, tmp_path) for name in COUNTED} == counts


def _asking(production: Production, name: str, port: int) -> list[str]:
    """A question to one of the databases, as its owner."""
    restore = production.documented.command(f"pg_restore .*/{name} ")
    url = restore[restore.index("--dbname") + 1].replace(f":{production.database}", f":{port}")
    return ["psql", url, "--tuples-only", "--no-align", "--command", COUNTED[name]]
