"""What privacy costs in accuracy: ``make privacy`` writes a section of ``docs/privacy.md``, and its picture.

Each cell is a plan that anybody can train, run here by the plain loop: one process, no server, one engine a family.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.privacy_page import Cell, Told, draw, section, setting
from configs.loading import load_plan
from configs.plan import Plan
from configs.privacy import Unit
from federated.engine import Engine
from federated.evaluation import evaluate
from federated.federation import Federation
from federated.loop import one_round
from federated.privacy.accounting import SelfComposed, calibrated
from federated.privacy.releases import Gaussian
from federated.rounds import initial_state
from tasks.engines import engine_of, prepare

SEEDS = (1, 2, 3)
_SETTINGS = ("simulation=true", "baselines=false", "stop=null", "quorum=1", "evaluate_every=0")
_DOCS = Path(__file__).parents[1] / "docs"


class Family(NamedTuple):
    """Cells that differ in epsilon alone.

    ``data`` is the folder in ``ROUNDHOUSE_DATA`` that it needs, if any; ``rate`` the probability with which a unit is
    drawn. ``changes`` are made to ``plan`` in every cell, ``bounded`` where there is no noise, ``noised`` gives those
    for a noise multiplier. ``spends`` is what a training with such noise and so many rounds tells of a unit.
    """

    name: str
    data: str
    unit: Unit
    delta: float
    rate: float
    epsilons: tuple[float, ...]
    plan: str
    rounds: int
    changes: tuple[str, ...]
    bounded: tuple[str, ...]
    noised: Callable[[float], tuple[str, ...]]
    spends: Callable[[float, int], SelfComposed]

    def noise(self, epsilon: float) -> float:
        """The least noise multiplier for it; 0 where it has no limit."""
        if epsilon == math.inf:
            return 0.0
        times = self.spends(1.0, self.rounds).times
        return calibrated(lambda noise: self.spends(noise, self.rounds).release, times, epsilon, self.delta)

    def cell(self, noise: float, seed: int) -> Plan:
        """The plan of a cell; a noise multiplier of 0 is none."""
        varied = (f"algorithm.seed={seed}", f"rounds={self.rounds}")
        return load_plan(
            self.plan, [*_SETTINGS, *self.changes, *varied, *(self.noised(noise) if noise else self.bounded)]
        )


def client_level(
    name: str, data: str, plan: str, clients: int, rate: float, rounds: int, norm: float, local: str
) -> Family:
    """Clients drawn by themselves with probability ``rate``, and noise on the server."""

    def noised(noise: float) -> tuple[str, ...]:
        gaussian = f"{{kind: central_gaussian, norm: {norm}, noise_multiplier: {noise:.4f}, seeded: true}}"
        privacy = f"{{population: {name}, delta: {delta}, budget: null}}"
        return f"algorithm.transforms=[{gaussian}]", f"privacy={privacy}"

    def spends(noise: float, rounds: int) -> SelfComposed:
        return SelfComposed(Gaussian(noise_multiplier=noise, sampling_rate=rate), rounds)

    delta = 1e-5
    changes = (
        "model={kind: logistic}",
        f"partition={{kind: iid, clients: {clients}}}",
        f"algorithm.select={{kind: poisson, rate: {rate}}}",
        f"algorithm.rule={{kind: fixed_mean, expected: {clients * rate:g}}}",
        f"algorithm.local={{{local}}}",
    )
    bounded = (f"algorithm.transforms=[{{kind: clip, norm: {norm}}}]",)
    epsilons = (1, 2, 4, 8, math.inf)
    return Family(name, data, "client", delta, rate, epsilons, plan, rounds, changes, bounded, noised, spends)


FAMILIES = (
    client_level(
        name="digits",
        data="",
        plan="quickstart",
        clients=300,
        rate=0.2,
        rounds=30,
        norm=1.0,
        local="epochs: 5, batch_size: 8, optimizer: {kind: sgd, learning_rate: 0.5}",
    ),
    client_level(
        name="fashion-mnist",
        data="fashion-mnist",
        plan="papers/fedavg-2nn",
        clients=2000,
        rate=0.1,
        rounds=50,
        norm=2.0,
        local="epochs: 5, batch_size: 5, optimizer: {kind: sgd, learning_rate: 0.2}",
    ),
)


def trained(plan: Plan, federation: Federation, engine: Engine) -> float:
    """The accuracy of the final model on the server's test rows."""
    state = initial_state(plan.algorithm, engine, len(federation.clients))
    for _ in range(plan.rounds):
        state = one_round(plan.algorithm, engine, state, federation.clients, {}, plan.needed).state
    return evaluate(engine, state.params, federation.test)["accuracy"]


def measure(family: Family, seeds: Sequence[int] = SEEDS) -> Iterator[Cell]:
    """Every epsilon's cell."""
    prepare()
    parties = {seed: family.cell(0, seed).federation() for seed in seeds}
    engine = engine_of(family.cell(0, seeds[0]), parties[seeds[0]])
    for epsilon in family.epsilons:
        noise = family.noise(epsilon)
        accuracies = [trained(family.cell(noise, seed), parties[seed], engine) for seed in seeds]
        yield Cell(epsilon, noise, tuple(accuracies))


def absent(family: Family) -> str:
    """Why it is left out; empty where its data are there."""
    if not family.data or (Path(os.environ.get("ROUNDHOUSE_DATA", "")) / family.data).is_dir():
        return ""
    return f"{family.name} is left out: ROUNDHOUSE_DATA names no folder that holds {family.data}"


def _told(family: Family) -> Told:
    cells = []
    for cell in measure(family):
        print(family.name, *cell, file=sys.stderr, flush=True)
        cells.append(cell)
    plan = family.cell(0, SEEDS[0])
    parties = plan.federation()
    said = setting(plan, parties, engine_of(plan, parties))
    return Told(family.name, said, family.unit, family.delta, family.rate, cells)


def main() -> None:
    """Measures, draws, and writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=_DOCS, help="the folder that both go into")
    out = parser.parse_args().out
    left_out = [reason for family in FAMILIES if (reason := absent(family))]
    for reason in left_out:
        print(reason, file=sys.stderr)
    told = [_told(family) for family in FAMILIES if not absent(family)]
    (out / "images").mkdir(parents=True, exist_ok=True)
    (out / "images" / "privacy-utility.png").write_bytes(draw(told))
    (out / "privacy-utility-section.md").write_text(section(told, left_out, SEEDS), encoding="utf-8")


if __name__ == "__main__":
    main()
