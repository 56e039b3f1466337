"""What grows with the cohort, with the clients and with the rounds: ``python -m benchmarks.growth``.

10,000 clients with 20 images of 28x28 each train the FedAvg paper's 2NN. Rounds of different sizes as a plain loop;
memory as all of Roundhouse needs it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.observed import Observed, observe, train
from benchmarks.report import Table, machine

if TYPE_CHECKING:
    from configs.plan import Plan
    from federated.data import Client
    from federated.engine import Engine
    from federated.rounds import ServerState
    from federated.updates import Update

_PLAN = "benchmarks/fashion-shaped.yaml"
_CLIENTS, _ROWS = 10_000, 20
_LOOPS = {10: 100, 100: 20, 1000: 5}  # rounds, by cohort
_EARLY, _LATE, _WIDE, _WIDE_ROUNDS = 20, 200, 1000, 5
_MANY = (f"data.options.clients={_CLIENTS}", f"data.options.rows={_ROWS}")
_GROWTH, _PEAK = "2 %", "4 GB"


def measure() -> Table:
    """The table."""
    table = Table(f"Growth: {_CLIENTS:,} clients of {_ROWS} images, 2NN", ("what", "measured", "promised"))
    paces = {cohort: _loop(cohort, rounds) for cohort, rounds in _LOOPS.items()}
    for cohort, pace in paces.items():
        table.add(f"a client, {cohort:,} a round, plain loop", f"{1e3 * pace:.2f} ms", "")
    table.add("the most over the least", f"{max(paces.values()) / min(paces.values()):.2f}", "linear")
    long = _training(10, _LATE)
    early, late = long.rss[_EARLY - 1], long.rss[_LATE - 1]
    table.add(f"all of Roundhouse: resident after round {_EARLY}, 10 a round", _megabytes(early), "")
    table.add(f"after round {_LATE}", f"{_megabytes(late)}, {100 * (late / early - 1):+.1f} %", _GROWTH)
    wide = _training(_WIDE, _WIDE_ROUNDS)
    table.add(f"{_WIDE:,} a round: a round", f"{statistics.median(wide.steps()):.1f} s", "")
    table.add(f"{_WIDE:,} a round: start to round 1", f"{wide.began:.1f} s", "")
    table.add(f"{_WIDE:,} a round: peak memory", _megabytes(wide.peak), _PEAK)
    return table


def _loop(cohort: int, rounds: int) -> float:
    """Median seconds a client trained."""
    command = [sys.executable, "-m", "benchmarks.growth", str(cohort), str(rounds + 1)]
    return statistics.median(observe(command, dict(os.environ), rounds + 1).steps()) / cohort


def _training(cohort: int, rounds: int) -> Observed:
    with tempfile.TemporaryDirectory() as home:
        return train(_PLAN, (*_MANY, f"algorithm.select.cohort={cohort}"), Path(home), rounds)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def run_loop(cohort: int, rounds: int) -> None:
    """Rounds without Prefect, MLflow and files; says when each is over."""
    from configs.environment import workers
    from configs.loading import load_plan
    from federated.rounds import initial_state, select, server_half
    from models.keras_engine import KerasEngine

    plan = load_plan(_PLAN, [f"algorithm.select.cohort={cohort}"])
    clients = _clients()
    example = next(iter(clients.values())).train
    engine = KerasEngine(plan.model, example.x.shape[1:], 10)
    state, threads = initial_state(plan.algorithm, engine, len(clients)), ThreadPoolExecutor(workers())
    for number in range(1, rounds + 1):
        names = select(plan.algorithm, engine, number, state.params, clients).cohort
        shards = [[clients[name] for name in names[first :: workers()]] for first in range(workers())]
        trained = threads.map(lambda shard, before=state: _updates(plan, engine, before, shard), shards)
        state, _ = server_half(plan.algorithm, state, [update for shard in trained for update in shard])
        print("round", number, flush=True)


def _clients() -> dict[str, Client]:
    from benchmarks.workload import client_rows
    from federated.data import Client, Split

    splits = [Split(*client_rows(number, _ROWS)) for number in range(_CLIENTS)]
    return {f"client-{number:05}": Client(f"client-{number:05}", rows, rows) for number, rows in enumerate(splits)}


def _updates(plan: Plan, engine: Engine, state: ServerState, shard: Sequence[Client]) -> list[Update]:
    """What a shard of the cohort sends."""
    from federated.onion import encode
    from federated.rounds import broadcast, local_updates

    algorithm, sent = plan.algorithm, broadcast(plan.algorithm, state)
    trained = local_updates(algorithm, engine, sent, shard, [{}] * len(shard))
    return [encode(algorithm, sent.round, engine.layers, one).update for one in trained]


def main() -> None:
    """Prints the table; with a cohort and a number of rounds, runs the plain loop."""
    if len(sys.argv) > 1:
        run_loop(int(sys.argv[1]), int(sys.argv[2]))
        return
    print(machine())
    print(measure())


if __name__ == "__main__":
    main()
