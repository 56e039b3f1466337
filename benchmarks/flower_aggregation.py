"""Flower's aggregation functions, timed with Flower's interpreter: ``python -m benchmarks.flower_aggregation WIDTH``.

Prints seconds and bytes by function, as JSON. The updates are those that this project's rules get.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

COHORT, FEW = 100, 11
BYZANTINE, TRIM = 2, 0.2
REPETITIONS = 3
_HIDDEN = 512  # units of the FedAvg paper's CNN


def shapes(width: int = _HIDDEN) -> list[tuple[int, ...]]:
    """The layers of the FedAvg paper's CNN, 1.66 million weights, or fewer with a narrower dense layer."""
    return [(5, 5, 1, 32), (32,), (5, 5, 32, 64), (64,), (3136, width), (width,), (width, 10), (10,)]


def cohort(width: int) -> list[Any]:
    """100 updates, each a vector of float32."""
    rng, size = np.random.default_rng(0), sum(int(np.prod(shape)) for shape in shapes(width))
    return [rng.normal(size=size).astype(np.float32) for _ in range(COHORT)]


def layers(vector: Any, width: int) -> list[Any]:
    """A vector as Flower has models; nothing is copied."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes(width)])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes(width), strict=True)]


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def extra_memory(act: Callable[[], object]) -> int:
    """The most bytes that it holds at once."""
    tracemalloc.start()
    act()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Times each function."""
    from flwr.server.strategy.aggregate import (
        aggregate,
        aggregate_bulyan,
        aggregate_krum,
        aggregate_median,
        aggregate_trimmed_avg,
    )

    width = int(sys.argv[1])
    weighted = [(layers(vector, width), 1 + place) for place, vector in enumerate(cohort(width))]
    acts: dict[str, tuple[int, Callable[[], object]]] = {
        "mean": (REPETITIONS, lambda: aggregate([(model, 1) for model, _ in weighted])),
        "weighted_mean": (REPETITIONS, lambda: aggregate(weighted)),
        "median": (1, lambda: aggregate_median(weighted)),
        "trimmed_mean": (1, lambda: aggregate_trimmed_avg(weighted, TRIM)),
        "krum": (1, lambda: aggregate_krum(weighted, BYZANTINE, 0)),
        "multi_krum": (1, lambda: aggregate_krum(weighted, BYZANTINE, COHORT - BYZANTINE)),
        "bulyan": (1, lambda: aggregate_bulyan(weighted[:FEW], BYZANTINE, aggregate_krum, to_keep=0)),
    }
    found = {}
    for name, (times, act) in acts.items():
        memory = extra_memory(act) if times > 1 else 0
        found[name] = (statistics.median(seconds(act) for _ in range(times)), memory)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
