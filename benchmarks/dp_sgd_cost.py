"""What DP-SGD costs in time, beside SGD and beside a gradient an example: ``python -m benchmarks.dp_sgd_cost``.

One client's local training of an epoch, by the same engine in one process, the ways in turn. SGD is compiled as it
would be for any plan (XLA, for the 2NN).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from benchmarks.local_training import Ratio
from benchmarks.report import Table, machine

ROWS, BATCHES = 600, (10, 50, 100)
_MODELS = {"2nn": {"hidden": (200, 200)}, "mlp of 64": {"hidden": (64,)}}
_PROMISED = "3"

Seconds = dict[str, list[float]]
"""Of every epoch, by the way it was trained."""


def measure(epochs: int = 30) -> Table:
    """The table."""
    heading = ("model", "batch", "SGD, ms", "DP-SGD over SGD", "a gradient an example, clipped, over SGD", "promised")
    table = Table(f"DP-SGD: an epoch of a client with {ROWS} images of 28 × 28", heading)
    for model in _MODELS:
        for batch in BATCHES:
            print(f"DP-SGD, {model}, batches of {batch}", file=sys.stderr)
            found = _in_process(model, batch, epochs)
            sgd, private, single = (statistics.median(found[way]) for way in ("sgd", "dp_sgd", "examples"))
            own = Ratio(private / sgd, min(found["dp_sgd"]) / sgd, _ninth(found["dp_sgd"]) / sgd)
            table.add(model, str(batch), f"{1e3 * sgd:.1f}", str(own), f"{single / sgd:.1f}", _PROMISED)
    return table


def _ninth(seconds: list[float]) -> float:
    """The ninth decile: the slowest of many on a shared machine says nothing."""
    return statistics.quantiles(seconds, n=10)[-1]


def _in_process(model: str, batch: int, epochs: int) -> Seconds:
    command = [sys.executable, "-m", "benchmarks.dp_sgd_cost", model, str(batch), str(epochs)]
    done = subprocess.run(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: Seconds = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turn(model: str, batch: int, epochs: int) -> Seconds:
    """Epoch after epoch, each way in turn; those in which programs are compiled are left out."""
    import numpy as np

    from federated.data import Split
    from federated.dp_sgd import DpSgd
    from federated.local_optimizers import Sgd
    from federated.local_training import LocalTraining
    from models.keras_engine import KerasEngine
    from models.specs import Mlp
    from tasks.engines import prepare

    prepare()
    rng = np.random.default_rng(0)
    data = Split(rng.normal(size=(ROWS, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, ROWS).astype(np.int32))
    engine = KerasEngine(Mlp(**_MODELS[model]), (28, 28, 1), 10)
    plain = LocalTraining(batch_size=batch, optimizer=Sgd(learning_rate=0.05))
    ways = {
        "sgd": plain,
        "dp_sgd": plain.model_copy(update={"dp_sgd": DpSgd(norm=1.0, noise_multiplier=1.0)}),
        "examples": plain.model_copy(update={"clip_examples": 1.0}),
    }
    params, seconds = engine.init(0), Seconds({way: [] for way in ways})
    for _ in range(epochs + 2):
        for way, work in ways.items():
            began = time.perf_counter()
            engine.fit(params, data, work, rng)
            seconds[way].append(time.perf_counter() - began)
    return {way: found[2:] for way, found in seconds.items()}


def main() -> None:
    """Prints the table; with a model, a batch and a number of epochs, trains these and prints their seconds."""
    if len(sys.argv) > 3:
        print(json.dumps(in_turn(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    print(machine())
    print(measure())


if __name__ == "__main__":
    main()
