"""What everything around the arithmetic costs: ``python -m benchmarks.overhead [--rounds 300]``.

One training by the command line, embedded defaults, a fresh home, on a plan with next to no arithmetic. The same
rounds run as a plain loop with as many threads; the difference, divided by the rounds, is the overhead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.observed import train, without_servers
from benchmarks.report import Table, machine

_CHANGES = ("baselines=false",)
_LOOP = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from configs.environment import workers
from configs.loading import load_plan
from federated.evaluation import ClientTests, distribution, evaluate
from federated.onion import encode
from federated.rounds import broadcast, initial_state, local_updates, select, server_half
from tasks.engines import engine_of

plan = load_plan("quickstart", sys.argv[1:])
parties = plan.federation()
engine = engine_of(plan, parties)
state, tests = initial_state(plan.algorithm, engine, len(parties.clients)), ClientTests(list(parties.clients.values()))
seconds, threads = [], ThreadPoolExecutor(workers())
for number in range(1, plan.rounds + 1):
    began = time.perf_counter()
    cohort = select(plan.algorithm, engine, number, state.params, parties.clients).cohort
    sent = broadcast(plan.algorithm, state)
    def train(shard):
        clients = [parties.clients[name] for name in shard]
        trained = local_updates(plan.algorithm, engine, sent, clients, [{}] * len(clients))
        return [encode(plan.algorithm, number, engine.layers, one).update for one in trained]
    shards = [cohort[start::workers()] for start in range(workers())]
    updates = [update for shard in threads.map(train, shards) for update in shard]
    state, _ = server_half(plan.algorithm, state, updates)
    evaluate(engine, state.params, parties.validation)
    distribution(tests.evaluate(engine, state.params).columns)
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""


def measure(rounds: int) -> Table:
    """The table of overheads."""
    changes = (*_CHANGES, f"rounds={rounds}")
    with _home() as home:
        cold = train("quickstart", _CHANGES, home, rounds=1)
        warm = train("quickstart", _CHANGES, home, rounds=1)
        long = train("quickstart", _CHANGES, home, rounds)
        check, usage = _seconds(home, "check", "quickstart"), _seconds(home, "--help")
    loop = _plain_loop(changes)
    steps = long.steps()
    third = max(rounds // 3, 1)
    early, late = statistics.median(steps[1 : 1 + third]), statistics.median(steps[-third:])
    arithmetic = statistics.median(loop)
    whole = (long.end - long.rounds[0] - sum(loop[1:])) / (rounds - 1)
    table = Table(f"Overhead: quickstart, {rounds} rounds, embedded defaults", ("what", "measured", "promised"))
    table.add("arithmetic of a round, plain loop", f"{1e3 * arithmetic:.0f} ms", "")
    table.add("overhead a round, with draining and closing at the end", f"{1e3 * whole:.0f} ms", "150 ms")
    table.add(f"a round, median of the first {third}", f"{1e3 * early:.0f} ms", "")
    table.add(f"a round, median of the last {third}", f"{1e3 * late:.0f} ms", "")
    table.add("last over first", f"{late / early:.2f}", "flat")
    table.add("memory at the end over round 10", f"{long.rss[-1] / long.rss[min(9, len(long.rss) - 1)]:.2f}", "flat")
    table.add("start to round 1, first time", f"{cold.began:.1f} s", "12 s")
    table.add("start to round 1, afterwards", f"{warm.began:.1f} s", "12 s")
    table.add("roundhouse check", f"{check:.2f} s", "1.5 s")
    table.add("roundhouse --help", f"{usage:.2f} s", "1.5 s")
    return table


def _plain_loop(changes: tuple[str, ...]) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", _LOOP, *changes],
        env=without_servers(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return [float(seconds) for seconds in json.loads(done.stdout)]


def _seconds(home: Path, *arguments: str) -> float:
    """The median of five runs of a command, after one to warm up."""
    command = [sys.executable, "-m", "roundhouse", *arguments]
    environment = {**without_servers(), "ROUNDHOUSE_HOME": str(home)}
    run = _timed(lambda: subprocess.run(command, env=environment, capture_output=True, check=True))
    run()
    return statistics.median(run() for _ in range(5))


def _timed(act: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    return run


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=300)
    print(machine())
    print(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
