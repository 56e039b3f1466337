"""What DP-SGD costs in time, beside SGD and beside a gradient an example: ``python -m benchmarks.dp_sgd_cost``.

One client's local training of an epoch, by the same engine in one process: a few clients one way, as in a round, then
as many the next. SGD is compiled as it would be for any plan (XLA, for the 2NN). Every step draws a number for each
weight, whatever the batch: that alone is the least that DP-SGD could take beyond SGD.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, pairwise

from benchmarks.local_training import Ratio
from benchmarks.report import Table, machine

ROWS, BATCHES = 600, (10, 50, 100)
_MODELS = {"2nn": {"hidden": (200, 200)}, "mlp of 64": {"hidden": (64,)}}
_PROMISED = "3"
_CLIENTS = 5  # one after the other; the first finds in the caches what another way has left there

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
        "DP-SGD over SGD, every core with a client",
    )
    table = Table(f"DP-SGD: an epoch of a client with {ROWS} images of 28 × 28", heading)
    for model in _MODELS:
        for batch in BATCHES:
            print(f"DP-SGD, {model}, batches of {batch}", file=sys.stderr)
            found = _in_process(model, batch, epochs)
            sgd, noise, single = (statistics.median(found[way]) for way in ("sgd", "noise", "examples"))
            own = _ratio(found["dp_sgd"], sgd)
            busy = _ratio(found["dp_sgd, busy"], statistics.median(found["sgd, busy"]))
            others = f"{noise / sgd:.2f}", f"{single / sgd:.1f}"
            table.add(model, str(batch), f"{1e3 * sgd:.1f}", str(own), *others, _PROMISED, str(busy))
    return table


def _ratio(seconds: list[float], base: float) -> Ratio:
    """Up to the ninth decile: the slowest of many on a shared machine says nothing."""
    return Ratio(statistics.median(seconds) / base, min(seconds) / base, statistics.quantiles(seconds, n=10)[-1] / base)


def _in_process(model: str, batch: int, epochs: int) -> Seconds:
    command = [sys.executable, "-m", "benchmarks.dp_sgd_cost", model, str(batch), str(epochs)]
    done = subprocess.run(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    found: Seconds = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turn(model: str, batch: int, epochs: int) -> Seconds:
    """Each way in turn; the first turn, in which programs are compiled, is left out."""
    import numpy as np

    from configs.environment import workers
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
    private = plain.model_copy(update={"dp_sgd": DpSgd(norm=1.0, noise_multiplier=1.0)})
    single = plain.model_copy(update={"clip_examples": 1.0})
    params = engine.init(0)

    def epoch(work: LocalTraining) -> None:
        engine.fit(params, data, work, np.random.default_rng(0))

    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "sgd": (1, partial(epoch, plain)),
        "dp_sgd": (1, partial(epoch, private)),
        "noise": (1, _noise_of(engine.trainable, ROWS // batch)),
        "examples": (1, partial(epoch, single)),
        "sgd, busy": (workers(), partial(epoch, plain)),
        "dp_sgd, busy": (workers(), partial(epoch, private)),
    }
    seconds = Seconds({way: [] for way in ways})
    for turn in range(1 + math.ceil(epochs / _CLIENTS)):
        for way, (threads, run) in ways.items():
            with ThreadPoolExecutor(threads) as pool:
                found = chain.from_iterable(pool.map(_timed, [run] * threads))
                seconds[way] += found if turn else ()
    return seconds


def _timed(run: Callable[[], object]) -> list[float]:
    """The seconds of some, one after the other."""
    times = [time.perf_counter()]
    for _ in range(_CLIENTS):
        run()
        times.append(time.perf_counter())
    return [end - begin for begin, end in pairwise(times)]


def _noise_of(size: int, steps: int) -> Callable[[], object]:
    """Draws what so many steps draw, and does nothing else."""
    import tensorflow as tf

    from models.noise import KEY, normals

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def drawn() -> object:
        def body(number: object, total: object) -> tuple[object, object]:
            return number + 1, total + normals(size, tf.fill([KEY], number))  # type: ignore[operator]

        begun = tf.constant(0), tf.zeros([size])
        return tf.while_loop(lambda number, _: number < steps, body, begun, parallel_iterations=1)[1]

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
