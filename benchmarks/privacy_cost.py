"""What client-level privacy costs in time: ``python -m benchmarks.privacy_cost``.

The same rounds with and without: as a plain loop one by one in turn, with the same cohorts, and as all of Roundhouse in
turn. Numbers are medians of rounds; what stands in brackets is the least and the most of a repetition.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.local_training import Ratio
from benchmarks.observed import PROJECT, train, without_servers
from benchmarks.report import Table, machine
from benchmarks.workload import CLIENTS, COHORT

_PLAN = "benchmarks/fashion-shaped.yaml"
_MODELS = {"2nn": (), "cnn": ("model={kind: cnn}",)}
_SAME = ("evaluate_every=0", f"algorithm.select={{kind: poisson, rate: {COHORT / CLIENTS}}}")
_WITHOUT = ("algorithm.rule={kind: mean}",)
_WITH = (
    f"algorithm.rule={{kind: fixed_mean, expected: {COHORT}}}",
    # So small a norm that noise does not lead the model to where numbers are no longer finite.
    "algorithm.transforms=[{kind: central_gaussian, norm: 0.01, noise_multiplier: 1.0}]",
    "privacy={population: clients, delta: 1.0e-5, budget: 10}",
)
_VARIANTS = {"without": _WITHOUT, "with": _WITH}
_PROMISED = "1.2"

Seconds = dict[str, list[float]]
"""Of every round, with and without."""


class Workload(NamedTuple):
    """A line of the table: what runs so many rounds with and so many without, and how often."""

    name: str
    run: Callable[[int], Seconds]
    rounds: int
    repetitions: int


def _plain(model: str) -> Callable[[int], Seconds]:
    """In a process of its own."""

    def run(rounds: int) -> Seconds:
        command = [sys.executable, "-m", "benchmarks.privacy_cost", model, str(rounds)]
        done = subprocess.run(
            command, env=without_servers(), cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        )
        found: Seconds = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


def _whole(rounds: int) -> Seconds:
    seconds: Seconds = {}
    for name, changes in _VARIANTS.items():
        with tempfile.TemporaryDirectory() as home:
            seconds[name] = train(_PLAN, (*_SAME, *changes), Path(home), rounds + 1).steps()
    return seconds


WORKLOADS = (
    Workload("2NN, plain loop", _plain("2nn"), rounds=60, repetitions=3),
    Workload("CNN, plain loop", _plain("cnn"), rounds=5, repetitions=3),
    Workload("2NN, all of Roundhouse, with its ledger", _whole, rounds=60, repetitions=5),
)


def measure(scale: float = 1.0) -> Table:
    """The table. ``scale`` shortens a trial."""
    title = f"Client-level privacy: {COHORT} of {CLIENTS} clients a round on average (Poisson), 600 images each"
    table = Table(title, ("what", "without, s a round", "with, s a round", "with over without", "promised"))
    for workload in WORKLOADS:
        found = list[Seconds]()
        for repetition in range(max(1, round(workload.repetitions * scale))):
            print(f"{workload.name}, repetition {repetition + 1}", file=sys.stderr)
            found.append(workload.run(max(1, round(workload.rounds * scale))))
        without, with_ = _median(found, "without"), _median(found, "with")
        each = [_median([one], "with") / _median([one], "without") for one in found]
        ratio = Ratio(with_ / without, min(each), max(each))
        table.add(workload.name, f"{without:.3f}", f"{with_:.3f}", str(ratio), _PROMISED)
    return table


def counting(rounds: int = 10_000) -> Table:
    """What a round pays for being counted, after so many: reserved, committed, looked ahead from, and said."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from federated.privacy.releases import Gaussian
    from tasks.balance import Terms
    from tasks.ledger import PrivacyLedger
    from tasks.signing import Signer
    from tasks.spending import ClientSpending

    release, seconds = Gaussian(noise_multiplier=1.0, sampling_rate=COHORT / CLIENTS), list[float]()
    terms = Terms(population="clients", unit="client", delta=1e-5, budget=1e6)
    with tempfile.TemporaryDirectory() as home:
        ledger = PrivacyLedger(Path(home) / "ledger.db", terms, Signer(Ed25519PrivateKey.generate()))
        spending = ClientSpending("run", release, ledger, repeats=False, means="")
        for number in range(rounds):
            began = time.perf_counter()
            spending.enter(number)
            spending.commit()
            seconds.append(time.perf_counter() - began)
    table = Table("A ledger: what it takes to count a round", ("rounds before", "ms a round", "over the first"))
    for before in (rounds // 100, rounds // 10, rounds):
        late, first = (statistics.median(seconds[end - rounds // 100 : end]) for end in (before, rounds // 100))
        table.add(f"{before - rounds // 100:,} to {before:,}", f"{1e3 * late:.1f}", f"{late / first:.2f}")
    return table


def _median(found: list[Seconds], variant: str) -> float:
    return statistics.median(seconds for repetition in found for seconds in repetition[variant])


def in_turn(model: str, rounds: int) -> Seconds:
    """Round after round, with and without, the same clients; the first, in which programs are compiled, is left out."""
    from configs.loading import load_plan
    from federated.loop import one_round
    from federated.rounds import initial_state, select
    from tasks.engines import engine_of, prepare

    prepare()
    plans = {name: load_plan(_PLAN, [*_MODELS[model], *_SAME, *changes]) for name, changes in _VARIANTS.items()}
    drawn = plans["without"]
    parties = drawn.federation()
    engine, clients = engine_of(drawn, parties), parties.clients
    states = {name: initial_state(plan.algorithm, engine, len(clients)) for name, plan in plans.items()}
    seconds: Seconds = {name: [] for name in plans}
    for number in range(1, rounds + 2):
        chosen = select(drawn.algorithm, engine, number, states["without"].params, clients)
        for name in sorted(plans, reverse=number % 2 == 0):
            began = time.perf_counter()
            passed = one_round(plans[name].algorithm, engine, states[name], clients, {}, 1, selection=chosen)
            seconds[name].append(time.perf_counter() - began)
            states[name] = passed.state
    return {name: found[1:] for name, found in seconds.items()}


def main() -> None:
    """Prints the table; with a model and a number of rounds, runs these and prints their seconds."""
    if len(sys.argv) > 2:
        print(json.dumps(in_turn(sys.argv[1], int(sys.argv[2]))))
        return
    print(machine())
    print(measure(scale=float(sys.argv[1]) if len(sys.argv) > 1 else 1.0))
    print(counting())


if __name__ == "__main__":
    main()
