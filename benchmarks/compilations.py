"""What the rule of compilation goes by: ``python -m benchmarks.compilations``.

CPU seconds of one thread for a client's local training, each kind of model in each way, one process. The first call,
which compiles, is not counted.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import Table, machine

_CLIENTS, _BATCH = 16, 10


class _Case(NamedTuple):
    name: str
    model: Any
    inputs: tuple[int, ...]
    rows: int
    ways: tuple[str, ...] = ("graph", "xla", "vectorized")


def _cases() -> list[_Case]:
    from models.specs import Cnn, Gru, Logistic, Lstm, Mlp, ResNet

    image, one_by_one = (28, 28, 1), ("graph", "xla")
    return [
        _Case("logistic, 64 features", Logistic(), (64,), 20),
        _Case("a layer of 64, 64 features", Mlp(hidden=(64,)), (64,), 60),
        _Case("2NN", Mlp(hidden=(200, 200)), image, 60),
        _Case("2NN", Mlp(hidden=(200, 200)), image, 600),
        _Case("CNN", Cnn(), image, 20, one_by_one),
        _Case("GRU, 20 steps", Gru(units=32), (20, 4), 60, one_by_one),
        _Case("LSTM, 80 tokens", Lstm(units=64, vocabulary=90), (80,), 30, one_by_one),
        _Case("ResNet", ResNet(), image, 10, one_by_one),
    ]


def measure() -> Table:
    """The table."""
    heading = ("model", "rows", "graph", "XLA", "vectorized", "the rule takes")
    table = Table(f"Ways of compiling: CPU ms a client, {_CLIENTS} clients, batches of {_BATCH}", heading)
    for case in _cases():
        found = {way: _milliseconds(case, way) for way in case.ways}
        cells = [f"{found[way]:.2f}" if way in found else "" for way in ("graph", "xla", "vectorized")]
        table.add(case.name, str(case.rows), *cells, _engine(case, "auto").compilation)
    return table


def _engine(case: _Case, way: str) -> Any:
    from models.keras_engine import KerasEngine

    return KerasEngine(case.model, case.inputs, 10, way)  # type: ignore[arg-type]


def _milliseconds(case: _Case, way: str) -> float:
    from federated.data import Client, Split
    from federated.engine import AS_ASKED
    from federated.local_optimizers import Sgd
    from federated.local_training import LocalTraining

    rng, engine = np.random.default_rng(0), _engine(case, way)
    work, clients = LocalTraining(batch_size=_BATCH, optimizer=Sgd(learning_rate=0.05)), list[Client]()
    for number in range(_CLIENTS):
        x = rng.random((case.rows, *case.inputs), dtype=np.float32)
        rows = Split(x, rng.integers(0, 10, case.rows).astype(np.int32))
        clients.append(Client(str(number), rows, rows))

    params = engine.init(0)

    def train() -> float:
        began = time.process_time()
        rngs = [np.random.default_rng(number) for number in range(_CLIENTS)]
        list(engine.fit_cohort(params, clients, work, rngs, [AS_ASKED] * _CLIENTS))
        return time.process_time() - began

    train()
    return 1e3 * statistics.median(train() for _ in range(5)) / _CLIENTS


def main() -> None:
    """Prints the table."""
    print(machine())
    print(measure())


if __name__ == "__main__":
    main()
