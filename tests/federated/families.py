"""Every family with its members: a new member is one row here, and inherits the family's laws."""

from __future__ import annotations

from types import UnionType
from typing import Any, NamedTuple, get_args

from federated.component import Component
from federated.corrections import AnyCorrection, FedDyn, FedProx, NoCorrection, Scaffold
from federated.gates import AnyGate, AtLeast, AtMost, Epsilon, Latency, NotWorse, Schema, Size, WorstClient
from federated.local_optimizers import (
    Adadelta,
    Adafactor,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AnyLocalOptimizer,
    CustomOptimizer,
    Ftrl,
    Lamb,
    Lion,
    Muon,
    Nadam,
    RmsProp,
    Sgd,
)
from federated.partitions import AnyPartition, Dirichlet, Iid, Natural, Shares
from federated.rules import AnyRule, CustomRule, FedNova, Mean, WeightedMean
from federated.scaling import AnyScaling, AsIs, Divide, Standardize
from federated.schedules import AnySchedule, Constant, Cosine, Exponential, Steps
from federated.selectors import All, AnySelector, Uniform
from federated.server_optimizers import AnyServerOptimizer, ServerSgd
from federated.sources import AnySource, BreastCancer, Csv, CustomSource, Digits, Line, Parquet
from federated.transforms import AnyTransform, Clip, ClipElements
from federated.work import AnyWork, Partial, PerClient, Same, TimeBudget

USER_CODE = "tests.federated.user_code"

RULES = (Mean(), WeightedMean(), FedNova(), CustomRule(target=f"{USER_CODE}:Median"))
SELECTORS = (All(), Uniform(cohort=3))
TRANSFORMS = (Clip(norm=1.0), ClipElements(threshold=0.5))
SERVER_OPTIMIZERS = (ServerSgd(), ServerSgd(learning_rate=0.3))
PARTITIONS = (
    Natural(),
    Shares(shares=(3, 1, 2)),
    Iid(clients=11),
    Dirichlet(clients=4, alpha=2.0, min_rows=1),
)
SCALINGS = (AsIs(), Divide(by=16), Standardize(), Standardize(per="client", ddof=1))
SOURCES_WITHOUT_A_FILE = (
    Digits(),
    BreastCancer(),
    Line(),
    CustomSource(target=f"{USER_CODE}:load_rows", options={"rows": 30}),
)
SOURCES = (
    *SOURCES_WITHOUT_A_FILE,
    Csv(path="table.csv", target="y"),
    Parquet(path=("a.parquet", "b.parquet"), target="y", target_above=0.5, missing=0.0),
)
LOCAL_OPTIMIZERS = (
    Sgd(),
    RmsProp(),
    Adam(),
    AdamW(),
    Adamax(),
    Nadam(),
    Lamb(),
    Lion(),
    Adagrad(),
    Adadelta(),
    Adafactor(),
    Ftrl(),
    Muon(),
    CustomOptimizer(target="package.module:Optimizer"),
)
CORRECTIONS = (NoCorrection(), FedProx(mu=0.5), Scaffold(), FedDyn(alpha=0.2))
SCHEDULES = (
    Constant(),
    Constant(warmup=4),
    Exponential(decay=0.9, every=3),
    Cosine(rounds=20, end=0.1),
    Steps(at=(5, 9), factor_each=0.5),
)
WORK = (
    Same(),
    Partial(stragglers=0.6),
    PerClient(epochs={"a": 0.5, "b": 3}),
    TimeBudget(seconds=2.0, steps_per_second=3.0, clients={"a": 0.1}),
)
GATES = (
    AtLeast(metric="accuracy", value=0.5),
    AtMost(metric="loss", value=2.0),
    AtMost(metric="mae", value=2.0),
    NotWorse(metric="accuracy", by=0.02),
    NotWorse(metric="loss", by=0.0),
    WorstClient(metric="accuracy", by=0.1),
    WorstClient(metric="mae", by=0.0),
    Epsilon(at_most=8.0),
    Latency(milliseconds=5.0),
    Size(megabytes=2.5),
    Schema(),
)


class Family(NamedTuple):
    """A discriminated union, and one instance or more of every class in it."""

    union: Any
    members: tuple[Component, ...]

    @property
    def classes(self) -> set[type]:
        """The classes in the union."""
        union = get_args(self.union)[0]
        return set(get_args(union)) if isinstance(union, UnionType) else {union}


FAMILIES = {
    "AnyRule": Family(AnyRule, RULES),
    "AnySelector": Family(AnySelector, SELECTORS),
    "AnyTransform": Family(AnyTransform, TRANSFORMS),
    "AnyServerOptimizer": Family(AnyServerOptimizer, SERVER_OPTIMIZERS),
    "AnyPartition": Family(AnyPartition, PARTITIONS),
    "AnyScaling": Family(AnyScaling, SCALINGS),
    "AnySource": Family(AnySource, SOURCES),
    "AnyLocalOptimizer": Family(AnyLocalOptimizer, LOCAL_OPTIMIZERS),
    "AnyCorrection": Family(AnyCorrection, CORRECTIONS),
    "AnySchedule": Family(AnySchedule, SCHEDULES),
    "AnyWork": Family(AnyWork, WORK),
    "AnyGate": Family(AnyGate, GATES),
}
