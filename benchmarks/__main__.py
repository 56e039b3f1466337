"""Runs every benchmark and writes ``benchmarks/results.md``."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import (
    aggregation,
    compilations,
    dp_sgd_cost,
    durability,
    growth,
    local_training,
    overhead,
    privacy_cost,
)
from benchmarks.report import machine


def main() -> None:
    """Measures, prints, writes."""
    argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__).parse_args()
    local_training.flower()  # what is missing should show before anything is measured
    tables = (
        local_training.measure(),
        compilations.measure(),
        aggregation.measure(),
        growth.measure(),
        overhead.measure(rounds=300),
        durability.measure(),
        privacy_cost.measure(),
        privacy_cost.counting(),
        dp_sgd_cost.measure(),
    )
    text = "\n".join(["# Results", "", machine(), *map(str, tables)])
    print(text)
    (Path(__file__).parent / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
