"""Every rule under every attack: ``make robustness`` writes ``docs/robustness.md``.

Each cell is a plan that anybody can train, run here by the plain loop: one process, no server, one engine for all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Table, machine
from configs.loading import load_plan
from configs.plan import Plan
from federated.component import Metrics
from federated.data import Split
from federated.engine import Engine
from federated.evaluation import evaluate
from federated.federation import Federation
from federated.loop import one_round
from federated.rounds import initial_state
from tasks.engines import engine_of, prepare

CLIENTS, LIARS, ROUNDS, SEEDS, ROOT_ROWS = 20, 4, 30, (1, 2, 3), 100

PARTITIONS = {
    "IID": f"{{kind: iid, clients: {CLIENTS}}}",
    "Dirichlet 0.5": f"{{kind: dirichlet, clients: {CLIENTS}, alpha: 0.5}}",
}
RULES = {
    "mean": "{kind: mean}",
    "norm bound": "{kind: norm_bounded_mean}",
    "median": "{kind: median}",
    "trimmed mean": "{kind: trimmed_mean, trim: 0.2}",
    "Krum": f"{{kind: krum, byzantine: {LIARS}}}",
    "multi-Krum": f"{{kind: multi_krum, byzantine: {LIARS}}}",
    "geometric median": "{kind: geometric_median}",
    "Bulyan": f"{{kind: bulyan, byzantine: {LIARS}}}",
    "centred clip": "{kind: centered_clip, radius: 1.0}",
    "FLTrust": "{kind: fltrust}",
}
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
_PAGE = Path(__file__).parents[1] / "docs" / "robustness.md"
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


def plan_of(partition: str, rule: str, attack: str, seed: int, rounds: int = ROUNDS) -> Plan:
    """The plan of a cell, from the three parts in YAML."""
    attacks = f"[{{{attack}, count: {LIARS}}}]" if attack else "[]"
    varied = (f"partition={partition}", f"algorithm.rule={rule}", f"attacks={attacks}", f"algorithm.seed={seed}")
    return load_plan("quickstart", [*_SETTINGS, *varied, f"rounds={rounds}"])


def trained(plan: Plan, federation: Federation, engine: Engine) -> Metrics:
    """The numbers of the final model on the server's test rows.

    A rule that asks for root rows gets the first of the server's validation rows, which nothing else looks at.
    """
    algorithm, adversary = plan.algorithm, plan.adversary(federation)
    state = initial_state(algorithm, engine, len(federation.clients))
    root = _root(federation) if algorithm.rule.needs_root else None
    for _ in range(plan.rounds):
        state = one_round(algorithm, engine, state, federation.clients, {}, 1, root, adversary).state
    return evaluate(engine, state.params, federation.test) | adversary.success(engine, state.params, federation.test)


def measure(
    partition: str, rules: Mapping[str, str], attacks: Mapping[str, str], seeds: Sequence[int], rounds: int = ROUNDS
) -> Iterator[tuple[str, Row]]:
    """Each rule with its row; the parts are in YAML, by name."""
    for name, rule in rules.items():
        row = Row()
        for called, attack in attacks.items():
            runs = [_run(plan_of(partition, rule, attack, seed, rounds)) for seed in seeds]
            backdoors = [run["backdoor_success"] for run in runs if "backdoor_success" in run]
            accuracy = float(np.mean([run["accuracy"] for run in runs]))
            row[called] = Cell(accuracy, float(np.mean(backdoors)) if backdoors else None)
        yield name, row


def _run(plan: Plan) -> Metrics:
    federation = _parties(plan.partition.model_dump_json(), plan.algorithm.seed)
    return trained(plan, federation, _engine())


@cache
def _parties(partition: str, seed: int) -> Federation:
    return plan_of(partition, RULES["mean"], "", seed).federation()


@cache
def _engine() -> Engine:
    prepare()
    plan = plan_of(PARTITIONS["IID"], RULES["mean"], "", 0)
    return engine_of(plan, plan.federation())


def _root(federation: Federation) -> Split:
    return federation.validation.take(np.arange(min(ROOT_ROWS, len(federation.validation))))


def _table(partition: str, rows: Iterator[tuple[str, Row]]) -> Table:
    table = Table(partition, ("rule", *ATTACKS, "lowest"))
    for name, row in rows:
        lowest = min(cell.accuracy for cell in row.values())
        table.add(name, *map(str, row.values()), f"{100 * lowest:.1f}")
        print(partition, name, *map(str, row.values()), file=sys.stderr, flush=True)
    return table


def page(tables: Sequence[Table]) -> str:
    """The whole of ``docs/robustness.md``."""
    rules = ", ".join(f"{name} `{rule}`" for name, rule in RULES.items())
    attacks = ", ".join(f"{name} `{{{attack}}}`" for name, attack in ATTACKS.items() if attack)
    said = (
        "# Rules under attack",
        "`make robustness` writes this page. Each cell is the accuracy in % of the final model on the server's test "
        f"rows, the mean of seeds {', '.join(map(str, SEEDS))}; after the slash, the backdoor's success: the share of "
        "triggered rows of other classes that the model takes for the attacker's. The last column is the row's lowest "
        "accuracy.",
        machine().strip(),
        f"scikit-learn's digits, {CLIENTS} clients of whom {LIARS} attack in every round, {ROUNDS} rounds of all "
        "clients, a network of 64-32-10, scaling by 16, 2 local epochs in batches of 8 by SGD at 0.4, no transforms. "
        f"FLTrust's root rows are {ROOT_ROWS} of the server's validation rows.",
        f"Rules: {rules}.",
        f"Attacks: {attacks}. The fields are explained in [plans.md](plans.md).",
        *(str(table).strip() for table in tables),
        _READING.read_text(encoding="utf-8").strip(),
    )
    return "\n\n".join(said) + "\n"


def main() -> None:
    """Measures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=_PAGE)
    out = parser.parse_args().out
    tables = [_table(name, measure(partition, RULES, ATTACKS, SEEDS)) for name, partition in PARTITIONS.items()]
    out.write_text(page(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
