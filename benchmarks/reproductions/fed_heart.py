"""Fed-Heart-Disease, as FLamby trains it (du Terrail et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.reproductions.kept import FOLDER, Record, made, write
from benchmarks.reproductions.loop import models
from configs.loading import load_plan
from federated.data import concatenate
from federated.randomness import generator
from tasks.engines import engine_of, prepare

if TYPE_CHECKING:
    from configs.plan import Plan
    from federated.component import Vector
    from federated.data import Split
    from federated.engine import Engine
    from federated.federation import Federation
    from models.keras_engine import KerasEngine

FILE = FOLDER / "fed-heart.jsonl"
SEEDS = (42, 43, 44, 45, 46)
"""FLamby's own; the split into training and test rows is the same for all."""

METHODS = {
    "FedAvg": "papers/fed-heart",
    "FedProx": "papers/fed-heart-fedprox",
    "SCAFFOLD": "papers/fed-heart-scaffold",
    "FedAdam": "papers/fed-heart-fedadam",
    "FedYogi": "papers/fed-heart-fedyogi",
    "FedAdagrad": "papers/fed-heart-fedadagrad",
    "pooled": "papers/fed-heart-baselines",
    "local": "papers/fed-heart-baselines",
}
"""The plan of each line of the table."""

Right = dict[str, int]
"""Test rows that a model is right about, by centre."""


def plan_of(method: str, seed: int) -> Plan:
    """What is trained."""
    return load_plan(METHODS[method], [f"algorithm.seed={seed}"])


def run(method: str, seed: int, start: str) -> Record:
    """One training, and how many of each centre's test rows it gets right.

    Raises:
        InputError: the data are absent.
    """
    plan, federation, engine = plan_of(method, seed), _federation(), _engine()
    engine.prepare(plan.algorithm.local)
    right = _TRAININGS.get(method, _federated)(plan, engine, federation, STARTS[start](engine, seed))
    return {"method": method, "start": start, "seed": seed, "digest": plan.digest(), "made": made(), "right": right}


def reproduce(say: Callable[[str], None]) -> None:
    """Trains by all methods, from all seeds and both kinds of first weights, and keeps what came out; minutes."""
    write(FILE, _runs(say))


def _runs(say: Callable[[str], None]) -> Iterator[Record]:
    for method in METHODS:
        for start in STARTS:
            for seed in SEEDS:
                yield (record := run(method, seed, start))
                say(f"{method}, {start}, seed {seed}: {record['right']}")


@cache
def _federation() -> Federation:
    """All plans have the same data, and deal nothing out by chance."""
    prepare()
    return plan_of("FedAvg", SEEDS[0]).federation()


@cache
def _engine() -> KerasEngine:
    return engine_of(plan_of("FedAvg", SEEDS[0]), _federation())


def _drawn_by_keras(engine: Engine, seed: int) -> Vector:
    """The plan's own: weights uniform up to √(6 / 14), and a bias of 0 (Glorot, Bengio 2010)."""
    return engine.init(seed)


def _drawn_by_pytorch(engine: Engine, seed: int) -> Vector:
    """Uniform up to 1 / √13, the bias too: how PyTorch begins a linear layer, and so FLamby's model."""
    bound = 1 / np.sqrt(engine.size - 1)
    return generator(seed, 0, "pytorch").uniform(-bound, bound, engine.size).astype(np.float32)


STARTS: Mapping[str, Callable[[Engine, int], Vector]] = {"Keras": _drawn_by_keras, "PyTorch": _drawn_by_pytorch}
"""Whose way to draw the weights before round 1."""


def _federated(plan: Plan, engine: Engine, federation: Federation, first: Vector) -> Right:
    *_, last = models(plan, engine, federation, first)
    return _right(engine, dict.fromkeys(federation.clients, last), federation)


def _pooled(plan: Plan, engine: Engine, federation: Federation, first: Vector) -> Right:
    rows = concatenate([client.train for client in federation.clients.values()])
    model = _alone(plan, engine, first, "", rows)
    return _right(engine, dict.fromkeys(federation.clients, model), federation)


def _local(plan: Plan, engine: Engine, federation: Federation, first: Vector) -> Right:
    """Each centre's own model, on its own rows."""
    own = {name: _alone(plan, engine, first, name, client.train) for name, client in federation.clients.items()}
    return _right(engine, own, federation)


_TRAININGS = {"pooled": _pooled, "local": _local}


def _alone(plan: Plan, engine: Engine, first: Vector, name: str, rows: Split) -> Vector:
    """A model after one long local training."""
    return engine.fit(first, rows, plan.algorithm.local, generator(plan.algorithm.seed, 0, "baseline", name)).params


def _right(engine: Engine, models: Mapping[str, Vector], federation: Federation) -> Right:
    return {
        name: int(engine.score(models[name], client.test)["accuracy"].sum())
        for name, client in federation.clients.items()
    }
