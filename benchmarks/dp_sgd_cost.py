"""What DP-SGD costs in time, beside SGD and beside a gradient an example: ``python -m benchmarks.dp_sgd_cost``.

One client's local training of an epoch, by the same engine in one process, the ways in turn. SGD is compiled as it
would be for any plan (XLA, for the 2NN). Every step draws a number for each weight, whatever the batch: that alone is
the least that DP-SGD could take beyond SGD.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from benchmarks.local_training import Ratio
from benchmarks.report import Table, machine

ROWS, BATCHES = 600, (10, 50, 100)
_MODELS = {"2nn": {"hidden": (200, 200)}, "mlp of 64": {"hidden": (64,)}}
_WAYS = ("sgd", "dp_sgd", "noise", "examples")
_PROMISED = "3"

Seconds = dict[str, list[float]]
"""Of every epoch, by the way it was trained."""


def measure(epochs: int = 30) -> Table:
    """The table."""
    heading = (
        "model",
        "batch",
        "SGD, ms",
        "DP-SGD over SGD",
        "its noise alone over SGD",
        "a gradient an example, clipped, over SGD",
        "promised",
    )
    table = Table(f"DP-SGD: an epoch of a client with {ROWS} images of 28 × 28", heading)
    for model in _MODELS:
        for batch in BATCHES:
            print(f"DP-SGD, {model}, batches of {batch}", file=sys.stderr)
            found = _in_process(model, batch, epochs)
            sgd, private, noise, single = (statistics.median(found[way]) for way in _WAYS)
            own = Ratio(private / sgd, min(found["dp_sgd"]) / sgd, _ninth(found["dp_sgd"]) / sgd)
            others = f"{noise / sgd:.2f}", f"{single / sgd:.1f}"
            table.add(model, str(batch), f"{1e3 * sgd:.1f}", str(own), *others, _PROMISED)
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
    params = engine.init(0)
    epoch: dict[str, Callable[[], object]] = {
        way: partial(engine.fit, params, data, work, rng) for way, work in ways.items()
    }
    epoch["noise"] = _noise_of(engine.trainable, ROWS // batch)
    seconds = Seconds({way: [] for way in epoch})
    for _ in range(epochs + 2):
        for way, run in epoch.items():
            began = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - began)
    return {way: found[2:] for way, found in seconds.items()}


def _noise_of(size: int, steps: int) -> Callable[[], object]:
    """Draws what so many steps draw, and does nothing else."""
    import tensorflow as tf

    from models.noise import KEY, normals

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def drawn() -> object:
        def body(number: object, total: object) -> tuple[object, object]:
            return number + 1, total + normals(size, tf.fill([KEY], number))  # type: ignore[operator]

        return tf.while_loop(lambda number, _: number < steps, body, (tf.constant(0), tf.zeros([size])))[1]

    return lambda: drawn().numpy()


def main() -> None:
    """Prints the table; with a model, a batch and a number of epochs, trains these and prints their seconds."""
    if len(sys.argv) > 3:
        print(json.dumps(in_turn(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    print(machine())
    print(measure())


if __name__ == "__main__":
    main()
