"""What it costs to lose nothing: ``python -m benchmarks.durability``.

Committing a round at 1.66 million parameters, a version among a thousand, and going on after SIGKILL.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.report import Table, machine

_WIDE = ("model.hidden=[1250, 1250]", "baselines=false")  # 1,657,510 parameters
_COMMITS, _VERSIONS, _COMPARED = 40, 1000, 50


def measure() -> Table:
    """The table."""
    table = Table("Durability: embedded defaults", ("what", "measured", "promised"))
    with _home():
        commit, version = _commit()
    table.add("committing a round of 1.66 M parameters, on the path of the rounds", f"{1e3 * commit:.0f} ms", "100 ms")
    table.add("its version, beside the rounds", f"{1e3 * version:.0f} ms", "")
    with _home():
        early, late = _many_versions()
    table.add(f"a small version, median of the first {_COMPARED}", f"{1e3 * early:.1f} ms", "")
    table.add(f"a small version, median after {_VERSIONS:,}", f"{1e3 * late:.1f} ms", "")
    table.add("late over early", f"{late / early:.2f}", "1.10")
    imported, recovery = _import_tensorflow(), _recovery()
    table.add("import of TensorFlow and Keras", f"{imported:.1f} s", "")
    table.add("SIGKILL, then restart to the first new round", f"{recovery:.1f} s", f"{15 + imported:.1f} s")
    return table


def _commit() -> tuple[float, float]:
    """Median seconds of a commit (the digests of ten updates, the state, the record), and of its version."""
    import numpy as np

    from federated.rounds import ServerState
    from federated.updates import Update
    from tasks.round_tasks import contributions
    from tasks.training import RoundReport

    training, course, registrar, journal = _begun(_WIDE)
    rng, commits, versions = np.random.default_rng(0), list[float](), list[float]()
    updates = [
        Update(name, rng.normal(size=training.engine.size).astype(np.float32), 10.0)
        for name in list(training.federation.clients)[:10]
    ]
    for number in range(1, _COMMITS + 1):
        params = course.state.params + np.float32(1e-3)
        state = ServerState(number, params, *course.state[2:])
        began = time.perf_counter()
        report = RoundReport(number, contributions(updates), (), {"loss": 1.0 / number}, (0.0,) * 5, {})
        committed = course.commit(state, report, {})
        commits.append(time.perf_counter() - began)
        began = time.perf_counter()
        registrar.register(journal, committed)
        versions.append(time.perf_counter() - began)
        journal.prune(3, number)
    return statistics.median(commits), statistics.median(versions[1:])


def _many_versions() -> tuple[float, float]:
    """Median seconds of a registration, among the first and after a thousand."""
    import numpy as np

    from federated.rounds import ServerState
    from tasks.training import RoundReport

    _, course, registrar, journal = _begun(("baselines=false",))
    seconds = list[float]()
    for number in range(1, _VERSIONS + _COMPARED + 1):
        state = ServerState(number, course.state.params + np.float32(1e-3), *course.state[2:])
        committed = course.commit(state, RoundReport(number, (), (), {"loss": 1.0 / number}, (0.0,) * 5, {}), {})
        began = time.perf_counter()
        registrar.register(journal, committed)
        seconds.append(time.perf_counter() - began)
        journal.prune(3, number)
    return statistics.median(seconds[10 : 10 + _COMPARED]), statistics.median(seconds[-_COMPARED:])


def _begun(changes: tuple[str, ...]):  # type: ignore[no-untyped-def]
    """A training of the quickstart that is open, without Prefect."""
    from configs import environment
    from configs.loading import load_plan
    from tasks.course import Course, begin_or_go_on
    from tasks.journal import Journal
    from tasks.loading import load_training
    from tasks.registering import Registrar
    from tasks.signing import signer
    from tasks.tracking import open_run
    from tasks.versions import VersionWriter

    training = load_training.fn(load_plan("quickstart", changes)).value
    journal = Journal(environment.checkpoints(), "quickstart", "bench", signer())
    course = begin_or_go_on(training, journal, accept_change=False, started=time.monotonic())
    assert isinstance(course, Course)
    run = open_run(training.plan, "bench", "none")
    writer = VersionWriter(training, run, journal.committed[0], journal.signer)
    return training, course, Registrar(training, run, writer), journal


def _recovery() -> float:
    """Seconds from the restart of a killed training to the end of its first new round."""
    command = [sys.executable, "-m", "roundhouse", "train", "quickstart", "--run-key", "bench"]
    command += [word for change in ("rounds=12", "baselines=false") for word in ("--set", change)]
    with _home():
        _until("round 5/", command, kill=True)
        return _until("round ", command, kill=False)


def _until(text: str, command: list[str], kill: bool) -> float:
    """Seconds until a line begins with ``text``; then the process is killed, or waited for."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=dict(os.environ), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    found = next((time.perf_counter() - began for line in process.stderr or () if line.startswith(text)), None)
    if found is None:
        raise SystemExit("the training failed")
    if kill:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return found


def _import_tensorflow() -> float:
    """The median of three."""
    return statistics.median(
        _timed(lambda: subprocess.run([sys.executable, "-c", "import keras"], capture_output=True, check=True))
        for _ in range(3)
    )


def _timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


@contextmanager
def _home() -> Iterator[Path]:
    """A home of its own, and no servers."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_API", "MLFLOW_TRACKING", "MLFLOW_REGISTRY"))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ROUNDHOUSE_HOME"] = folder
        yield Path(folder)


def main() -> None:
    """Prints the table."""
    from configs import environment

    environment.quieten()
    print(machine())
    print(measure())


if __name__ == "__main__":
    main()
