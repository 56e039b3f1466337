"""What ``make privacy`` trains: families of plans that differ in epsilon alone."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy_page import Judged
from configs.loading import load_plan
from configs.plan import Plan
from federated.component import Vector
from federated.engine import Engine
from federated.evaluation import evaluate
from federated.federation import Federation
from roundhouse.forecast import forecast

_SETTINGS = ("simulation=true", "baselines=false", "stop=null", "quorum=1", "evaluate_every=0")


class Family(NamedTuple):
    """Cells that differ in epsilon alone.

    ``data`` is the folder in ``ROUNDHOUSE_DATA`` that it needs, if any; ``promise`` what its epsilons are of, ``drawn``
    who is in a round, ``scored`` what of the test rows counts alike. ``changes`` are made to ``plan`` in every cell,
    ``bounded`` where there is no noise, ``noised`` gives those for a noise multiplier. ``judge`` says how right a model
    is, ``guess`` how right one answer to all would be.
    """

    name: str
    data: str
    promise: str
    drawn: str
    scored: str
    epsilons: tuple[float, ...]
    plan: str
    changes: tuple[str, ...]
    bounded: tuple[str, ...]
    noised: Callable[[float], tuple[str, ...]]
    judge: Callable[[Engine, Vector, Federation], Judged]
    guess: Callable[[Federation], Judged | None]

    def noise(self, epsilon: float) -> float:
        """The least noise multiplier for it, by whoever pays most; 0 where it has no limit."""
        return 0.0 if epsilon == math.inf else forecast(self.cell(1.0, 1), epsilon, None).answer.noise_multiplier

    def cell(self, noise: float, seed: int) -> Plan:
        """The plan of a cell; a noise multiplier of 0 is none."""
        changes = (*_SETTINGS, *self.changes, f"algorithm.seed={seed}")
        return load_plan(self.plan, [*changes, *(self.noised(noise) if noise else self.bounded)])

    @property
    def absent(self) -> str:
        """Why it is left out; empty where its data are there."""
        if not self.data or (Path(os.environ.get("ROUNDHOUSE_DATA", "")) / self.data).is_dir():
            return ""
        return f"{self.name} is left out: ROUNDHOUSE_DATA names no folder that holds {self.data}"


def client_level(
    name: str, data: str, plan: str, clients: int, rate: float, rounds: int, norm: float, local: str
) -> Family:
    """Clients drawn by themselves with probability ``rate``, and noise on the server."""

    def noised(noise: float) -> tuple[str, ...]:
        gaussian = f"{{kind: central_gaussian, norm: {norm}, noise_multiplier: {noise:.4f}, seeded: true}}"
        privacy = f"{{population: {name}, delta: {delta}, budget: null}}"
        return f"algorithm.transforms=[{gaussian}]", f"privacy={privacy}"

    delta = 1e-5
    changes = (
        f"rounds={rounds}",
        "model={kind: logistic}",
        f"partition={{kind: iid, clients: {clients}}}",
        f"algorithm.select={{kind: poisson, rate: {rate}}}",
        f"algorithm.rule={{kind: fixed_mean, expected: {clients * rate:g}}}",
        f"algorithm.local={{{local}}}",
    )
    return Family(
        name=name,
        data=data,
        promise=f"one client, added or removed; delta {delta:g}; Poisson sampling",
        drawn=f"each client in a round with probability {rate:g}",
        scored="each counted alike",
        epsilons=(1, 2, 4, 8, math.inf),
        plan=plan,
        changes=changes,
        bounded=(f"algorithm.transforms=[{{kind: clip, norm: {norm}}}]",),
        noised=noised,
        judge=on_the_server,
        guess=lambda _: None,
    )


def record_level(name: str, data: str, plan: str, norm: float) -> Family:
    """A private plan as it is, all clients in every round: each noises all of its steps, and draws no batches."""

    def noised(noise: float) -> tuple[str, ...]:
        dp_sgd = f"{{norm: {norm}, noise_multiplier: {noise:.4f}, seeded: true}}"
        return f"algorithm.local.dp_sgd={dp_sgd}", f"privacy={{population: {name}, delta: {delta}, budget: null}}"

    delta = 1e-4
    return Family(
        name=name,
        data=data,
        promise=f"one record of a client, or zero gradients in its place; delta {delta:g}; all rows in every step",
        drawn="every client in every round",
        scored="each client counted alike",
        epsilons=(0.1, 1, 5, 10, math.inf),
        plan=plan,
        changes=(),
        bounded=("algorithm.local.dp_sgd=null", f"algorithm.local.clip_examples={norm}", "privacy=null"),
        noised=noised,
        judge=by_client,
        guess=one_answer,
    )


def on_the_server(engine: Engine, params: Vector, federation: Federation) -> Judged:
    """The model on the server's test rows."""
    return Judged(evaluate(engine, params, federation.test)["accuracy"], {})


def by_client(engine: Engine, params: Vector, federation: Federation) -> Judged:
    """The model on every client's own test rows."""
    return _alike({name: engine.score(params, client.test)["accuracy"] for name, client in federation.clients.items()})


def one_answer(federation: Federation) -> Judged:
    """Whoever always gives the answer that most training rows have, on every client's own test rows."""
    targets = np.concatenate([client.train.y for client in federation.clients.values()])
    answers, counts = np.unique(targets, return_counts=True)
    answer = answers[counts.argmax()]
    return _alike({name: client.test.y == answer for name, client in federation.clients.items()})


def _alike(right: dict[str, NDArray[np.generic]]) -> Judged:
    """The mean of clients, whatever they have of rows; and beside it that of all rows."""
    each = {name: float(np.mean(rows, dtype=np.float64)) for name, rows in right.items()}
    rows = np.concatenate([np.asarray(one, np.float64) for one in right.values()])
    return Judged(float(np.mean(list(each.values()))), {**each, "all rows": float(rows.mean())})


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
    record_level(name="fed-heart", data="heart-disease", plan="papers/fed-heart-private", norm=1.0),
)
