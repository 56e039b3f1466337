"""Every rule under every attack: ``make robustness`` writes ``docs/robustness.md``.

Each cell is a plan that anybody can train, run here by the plain loop: one process, no server, one engine for all.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Table, machine
from configs.loading import load_plan
from configs.plan import Plan
from federated.component import Metrics
from federated.engine import Engine
from federated.evaluation import evaluate
from federated.federation import Federation
from federated.loop import one_round
from federated.rounds import initial_state
from tasks.engines import engine_of, prepare

CLIENTS, LIARS, ROUNDS, SEEDS = 20, 4, 30, (1, 2, 3)

PARTITIONS = {
    "IID": f"{{kind: iid, clients: {CLIENTS}}}",
    "Dirichlet 0.5": f"{{kind: dirichlet, clients: {CLIENTS}, alpha: 0.5}}",
}
RULES = {
    "mean": ("algorithm.rule={kind: mean}",),
    "weighted mean": ("algorithm.rule={kind: weighted_mean}",),
    "FedNova": ("algorithm.rule={kind: fednova}",),
    "q-FedAvg, q = 0.2": ("algorithm.rule={kind: qfedavg, q: 0.2, lipschitz: 2.5}",),
    "norm bound": ("algorithm.rule={kind: norm_bounded_mean}",),
    "median": ("algorithm.rule={kind: median}",),
    "trimmed mean": ("algorithm.rule={kind: trimmed_mean, trim: 0.2}",),
    "Krum": (f"algorithm.rule={{kind: krum, byzantine: {LIARS}}}",),
    "multi-Krum": (f"algorithm.rule={{kind: multi_krum, byzantine: {LIARS}}}",),
    "geometric median": ("algorithm.rule={kind: geometric_median}",),
    "Bulyan": (f"algorithm.rule={{kind: bulyan, byzantine: {LIARS}}}",),
    "centred clip": ("algorithm.rule={kind: centered_clip, radius: 1.0}",),
    "FLTrust": ("algorithm.rule={kind: fltrust}", "holdout.root=0.06"),
}
"""What each changes in the plan."""

ATTACKS = {
    "none": "",
    "sign flip ×4": "kind: sign_flip, scale: 4",
    "Gaussian 0.5": "kind: gaussian, deviation: 0.5",
    "label flip": "kind: label_flip",
    "ALIE": "kind: alie",
    "ALIE z = 1.5": "kind: alie, deviations: 1.5",
    "IPM 0.5": "kind: inner_product, factor: 0.5",
    "backdoor ×5": "kind: backdoor, size: 2, target: 0, poisoned: 0.5, scale: 5",
    "free rider": "kind: free_rider",
}
_SETTINGS = (
    "simulation=true",
    "baselines=false",
    "stop=null",
    f"quorum={CLIENTS}",
    "model={kind: mlp, hidden: [32]}",
    "algorithm.select={kind: all}",
    "algorithm.transforms=[]",
    "algorithm.local={epochs: 2, batch_size: 8, optimizer: {kind: sgd, learning_rate: 0.4}}",
)
PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
_READING = Path(__file__).with_name("robustness-reading.md")


class Cell(NamedTuple):
    """The final model on the server's test rows, averaged over seeds; ``backdoor`` where there is one."""

    accuracy: float
    backdoor: float | None

    def __str__(self) -> str:
        backdoor = "" if self.backdoor is None else f" / {100 * self.backdoor:.1f}"
        return f"{100 * self.accuracy:.1f}{backdoor}"


Row = dict[str, Cell]
"""What a rule comes to, by attack."""


def plan_of(partition: str, rule: Sequence[str], attack: str, seed: int, rounds: int = ROUNDS) -> Plan:
    """The plan of a cell: a partition and an attack in YAML, and what the rule changes."""
    attacks = f"[{{{attack}, count: {LIARS}}}]" if attack else "[]"
    varied = (f"partition={partition}", f"attacks={attacks}", f"algorithm.seed={seed}", f"rounds={rounds}")
    return load_plan("quickstart", [*_SETTINGS, *varied, *rule])


def trained(plan: Plan, federation: Federation, engine: Engine) -> Metrics:
    """The numbers of the final model on the server's test rows."""
    algorithm, adversary = plan.algorithm, plan.adversary(federation)
    state = initial_state(algorithm, engine, len(federation.clients))
    for _ in range(plan.rounds):
        state = one_round(algorithm, engine, state, federation.clients, {}, 1, federation.root, adversary).state
    return evaluate(engine, state.params, federation.test) | adversary.success(engine, state.params, federation.test)


def measure(
    partition: str,
    rules: Mapping[str, Sequence[str]],
    attacks: Mapping[str, str],
    seeds: Sequence[int],
    rounds: int = ROUNDS,
) -> Iterator[tuple[str, Row]]:
    """Each rule with its row."""
    for name, rule in rules.items():
        runs: dict[str, list[Metrics]] = {called: [] for called in attacks}
        for seed in seeds:
            federation = plan_of(partition, rule, "", seed, rounds).federation()
            for called, attack in attacks.items():
                plan = plan_of(partition, rule, attack, seed, rounds)
                runs[called].append(trained(plan, federation, _engine()))
        yield name, {called: _cell(found) for called, found in runs.items()}


def _cell(runs: Sequence[Metrics]) -> Cell:
    backdoors = [run["backdoor_success"] for run in runs if "backdoor_success" in run]
    accuracy = float(np.mean([run["accuracy"] for run in runs]))
    return Cell(accuracy, float(np.mean(backdoors)) if backdoors else None)


@cache
def _engine() -> Engine:
    prepare()
    plan = plan_of(PARTITIONS["IID"], RULES["mean"], "", 0)
    return engine_of(plan, plan.federation())


def _table(partition: str, rows: Iterator[tuple[str, Row]]) -> Table:
    table = Table(partition, ("rule", *ATTACKS, "lowest"))
    for name, row in rows:
        lowest = min(cell.accuracy for cell in row.values())
        table.add(name, *map(str, row.values()), f"{100 * lowest:.1f}")
        print(partition, name, *map(str, row.values()), file=sys.stderr, flush=True)
    return table


def page(tables: Sequence[Table]) -> str:
    """The whole of ``docs/robustness.md``."""
    named = Table("What the names mean", ("name", "in the plan"))
    for name, rule in RULES.items():
        named.add(name, ", ".join(f"`{change}`" for change in rule))
    for name, attack in ATTACKS.items():
        if attack:
            named.add(name, f"`attacks: [{{{attack}, count: {LIARS}}}]`")
    said = (
        "`make robustness` writes this page. Each cell is the accuracy in % of the final model on the server's test "
        f"rows, the mean of seeds {', '.join(map(str, SEEDS))}; after the slash the backdoor's success, the share of "
        "triggered rows of other classes that the model takes for the attackers' class. The last column is the row's "
        "lowest accuracy.",
        f"Trained were scikit-learn's digits by {CLIENTS} clients, of whom {LIARS} attack in every round: {ROUNDS} "
        "rounds of all clients, a network of 64-32-10, 2 local epochs in batches of 8 by SGD at 0.4, no transforms. "
        "Robust rules are told the right number of attackers. FLTrust's server trains on 6 % of all rows, which are "
        "then no client's. What attackers may do and know is in [plans.md](plans.md).",
        machine().strip(),
    )
    paragraphs = ["# Rules under attack", *(textwrap.fill(text, 150) for text in said)]
    parts = [*map(str, tables), _READING.read_text(encoding="utf-8"), str(named)]
    return "\n\n".join([*paragraphs, *(part.strip() for part in parts)]) + "\n"


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=PAGE)
    out = parser.parse_args().out
    tables = [_table(name, measure(partition, RULES, ATTACKS, SEEDS)) for name, partition in PARTITIONS.items()]
    out.write_text(page(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
