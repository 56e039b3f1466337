"""Servers on 127.0.0.1, started as ``docs/operations.md`` says, each ended by who started it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.roundhouse.commands import wait_until

_UNPRIVILEGED = "nobody"
_STARTUP_SECONDS = 180
_STOP_SECONDS = 30

POSTGRESQL = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=Path(), key=lambda at: at.parts[-3]).parent
"""The newest PostgreSQL's commands; the current folder where there are none."""

MISSING = [
    name
    for name, found in {
        "postgresql (apt install postgresql)": (POSTGRESQL / "initdb").exists(),
        "setpriv": shutil.which("setpriv"),
        "curl": shutil.which("curl"),
    }.items()
    if not found
]


def free_ports(count: int) -> Sequence[int]:
    """Ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    folder: Path,
    prefix: Sequence[str] = (),
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that ends with this block or this process. It is killed by default: what it holds is thrown away."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*prefix, "setpriv", "--pdeathsig", "INT", *command],
            env=env,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        process.wait(timeout=_STOP_SECONDS)


def module(name: str, *arguments: str) -> list[str]:
    """A Python module as a command."""
    return [sys.executable, "-m", name, *arguments]


def run(command: Sequence[str], env: Mapping[str, str], folder: Path) -> str:
    """A command that must succeed, PostgreSQL's own included; gives what it printed."""
    path = f"{POSTGRESQL}{os.pathsep}{env['PATH']}"
    done = subprocess.run(command, env={**env, "PATH": path}, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until ``url`` answers."""
    wait_until(lambda: process.poll() is not None or answers(url), _STARTUP_SECONDS)
    assert process.poll() is None, log.read_text()


def answers(url: str) -> bool:
    """Whether somebody answers, whatever it is."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError as refusal:
        refusal.close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def postgresql(port: int, password: str, log: Path) -> Iterator[None]:
    """A cluster of its own, where everybody needs a password. It refuses to run as root: then somebody else runs it."""
    folder = Path(tempfile.mkdtemp(prefix="roundhouse-postgresql-"))  # pytest's folders are closed to other users
    (folder / "password").write_text(password)
    drop: list[str] = []
    if os.geteuid() == 0:
        drop = ["setpriv", "--reuid", _UNPRIVILEGED, "--regid", "nogroup", "--clear-groups"]
        for path in (folder, folder / "password"):
            shutil.chown(path, _UNPRIVILEGED, "nogroup")
    options = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    try:
        subprocess.run(
            [*drop, POSTGRESQL / "initdb", "--pgdata", folder / "data", "--username", "postgres", "--no-sync",
             "--auth", "scram-sha-256", "--pwfile", folder / "password", "--encoding", "UTF8", "--locale", "C.UTF-8"],
            check=True, capture_output=True,
        )  # fmt: skip
        server = [str(POSTGRESQL / "postgres"), "-D", str(folder / "data"), *settings]
        with running(server, log, os.environ, folder, drop, signal.SIGINT) as process:  # it frees its shared memory
            ready = [POSTGRESQL / "pg_isready", "--quiet", "--host", "127.0.0.1", "--port", str(port)]
            wait_until(lambda: process.poll() is not None or subprocess.run(ready, check=False).returncode == 0, 30)
            assert process.poll() is None, log.read_text()
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
