"""What privacy costs in accuracy: ``make privacy`` writes ``docs/privacy-utility.md`` and its picture.

Each cell is a plan that anybody can train, run here by the plain loop: one process, no server, one engine a family.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.privacy_families import FAMILIES, Family
from benchmarks.privacy_page import Cell, Told, draw, page, setting
from configs.plan import Plan
from federated.component import Vector
from federated.engine import Engine
from federated.federation import Federation
from federated.loop import one_round
from federated.rounds import initial_state
from tasks.engines import engine_of, prepare

SEEDS = (1, 2, 3)
_DOCS = Path(__file__).parents[1] / "docs"


def trained(plan: Plan, federation: Federation, engine: Engine) -> Vector:
    """The final model."""
    state = initial_state(plan.algorithm, engine, len(federation.clients))
    for _ in range(plan.rounds):
        state = one_round(plan.algorithm, engine, state, federation.clients, {}, plan.needed).state
    return state.params


def measure(family: Family, seeds: Sequence[int] = SEEDS) -> Iterator[Cell]:
    """Every epsilon's cell."""
    prepare()
    parties = {seed: family.cell(0, seed).federation() for seed in seeds}
    engine = engine_of(family.cell(0, seeds[0]), parties[seeds[0]])
    for epsilon in family.epsilons:
        noise, judged = family.noise(epsilon), []
        engine.prepare(family.cell(noise, seeds[0]).algorithm.local)
        for seed in seeds:
            model = trained(family.cell(noise, seed), parties[seed], engine)
            judged.append(family.judge(engine, model, parties[seed]))
        yield Cell(epsilon, noise, tuple(judged))


def _told(family: Family) -> Told:
    cells = []
    for cell in measure(family):
        print(family.name, cell.epsilon, cell.noise, *cell.accuracies, file=sys.stderr, flush=True)
        cells.append(cell)
    plan = family.cell(0, SEEDS[0])
    parties = plan.federation()
    said = f"{setting(plan, parties, engine_of(plan, parties), family.drawn)}, {family.scored}"
    return Told(family.name, said, family.promise, family.drawn, cells, family.guess(parties))


def main() -> None:
    """Measures, draws, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=_DOCS, help="the folder that both go into")
    out = parser.parse_args().out
    left_out = [family.absent for family in FAMILIES if family.absent]
    for reason in left_out:
        print(reason, file=sys.stderr)
    told = [_told(family) for family in FAMILIES if not family.absent]
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "images" / "privacy-utility.png").write_bytes(draw(told))
    (out / "privacy-utility.md").write_text(page(told, left_out, SEEDS), encoding="utf-8")


if __name__ == "__main__":
    main()
