"""Runs every benchmark and writes ``benchmarks/results.md``."""

from __future__ import annotations

from pathlib import Path

from benchmarks import durability, overhead
from benchmarks.report import machine


def main() -> None:
    """Measures, prints, writes."""
    text = "\n".join(["# Results", "", machine(), str(overhead.measure(rounds=300)), str(durability.measure())])
    print(text)
    (Path(__file__).parent / "results.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
