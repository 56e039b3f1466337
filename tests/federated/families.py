"""Every family with its members: a new member is one row here, and inherits the family's laws."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, get_args, get_origin

from federated.attacks import (
    Alie,
    AnyAttack,
    Backdoor,
    FreeRider,
    Gaussian,
    InnerProduct,
    LabelFlip,
    Rounds,
    SignFlip,
)
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
from federated.partitions import AnyPartition, Dirichlet, Features, Iid, Labels, Natural, PowerLaw, Shards, Shares
from federated.rules import (
    AnyRule,
    Bulyan,
    CenteredClip,
    CustomRule,
    FedNova,
    FixedMean,
    FlTrust,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    NormBoundedMean,
    QFedAvg,
    TrimmedMean,
    WeightedMean,
)
from federated.scaling import AnyScaling, AsIs, Divide, Given, Standardize
from federated.schedules import AnySchedule, Constant, Cosine, Exponential, Steps
from federated.selectors import (
    All,
    AnySelector,
    Available,
    BySize,
    CustomSelector,
    Poisson,
    PowerOfChoice,
    Presence,
    RoundRobin,
    Stratified,
    Uniform,
)
from federated.server_optimizers import (
    AnyServerOptimizer,
    ServerAdagrad,
    ServerAdam,
    ServerMomentum,
    ServerSgd,
    ServerYogi,
)
from federated.sources import (
    AnySource,
    BreastCancer,
    Csv,
    CustomSource,
    Diabetes,
    Digits,
    Idx,
    Images,
    Iris,
    Line,
    Linnerud,
    Npz,
    Parquet,
    Ratings,
    Text,
    Windows,
    Wine,
)
from federated.transforms import (
    AdaptiveGaussian,
    AnyTransform,
    CentralGaussian,
    Clip,
    ClipElements,
    ClipLayers,
    CorrelatedGaussian,
    DistributedSkellam,
    LocalGaussian,
    Quantise,
    RandomK,
    Rotate,
    Sign,
    TopK,
)
from federated.work import AnyWork, Partial, PerClient, Same, TimeBudget
from models.keras_datasets import AnyData, KerasDataset

USER_CODE = "tests.federated.user_code"

RULES = (
    Mean(),
    WeightedMean(),
    WeightedMean(by="quality", weights={"client-1": 0.5}),
    FixedMean(expected=3.0),
    FixedMean(expected=2.5, cap=20),
    FedNova(),
    Median(),
    TrimmedMean(),
    TrimmedMean(trim=0.4),
    Krum(byzantine=1),
    MultiKrum(byzantine=2),
    MultiKrum(byzantine=1, keep=3),
    Bulyan(byzantine=1),
    GeometricMedian(),
    CenteredClip(radius=500.0),
    CenteredClip(radius=200.0, iterations=3),
    FlTrust(),
    NormBoundedMean(),
    NormBoundedMean(bound=2e3),
    QFedAvg(q=0.0, lipschitz=10.0),
    QFedAvg(q=2.0, lipschitz=10.0),
    CustomRule(target=f"{USER_CODE}:Median"),
)
SELECTORS = (
    All(),
    Uniform(cohort=3),
    Poisson(rate=0.5),
    BySize(cohort=3),
    RoundRobin(cohort=3),
    PowerOfChoice(cohort=2, candidates=4),
    Available(cohort=3, over=1.5, finish=0.9, presence=Presence(probability=0.95)),
    Stratified(cohort=4, tag="tier"),
    CustomSelector(target="federated.selectors:Uniform", options={"cohort": 2}),
)
TRANSFORMS = (
    Clip(norm=1.0),
    ClipLayers(norm=0.7),
    ClipElements(threshold=0.5),
    TopK(share=0.3),
    TopK(share=0.3, error_feedback=False),
    RandomK(share=0.4),
    Quantise(bits=2, block=7),
    Quantise(),
    Rotate(block=8),
    Rotate(bits=2),
    Sign(),
    CentralGaussian(norm=1.0, noise_multiplier=1.0),
    AdaptiveGaussian(norm=0.1, noise_multiplier=0.1),
    CentralGaussian(norm=0.3, noise_multiplier=1.0, seeded=True),
    LocalGaussian(norm=1.0, noise_multiplier=1.0),
    DistributedSkellam(norm=1.0, noise_multiplier=1.0, least=1, seeded=True),
    CorrelatedGaussian(norm=1.0, noise_multiplier=1.0, rounds=9, participations=9, seeded=True),
)
SERVER_OPTIMIZERS = (
    ServerSgd(),
    ServerSgd(learning_rate=0.3, schedule=Steps(at=(2,), factor_each=0.5)),
    ServerMomentum(),
    ServerMomentum(momentum=0.5, nesterov=True, schedule=Cosine(rounds=4)),
    ServerAdagrad(),
    ServerAdam(),
    ServerYogi(),
    ServerYogi(beta_1=0.0, schedule=Constant(warmup=3)),
)
PARTITIONS = (
    Natural(),
    Shares(shares=(3, 1, 2)),
    Iid(clients=11),
    PowerLaw(clients=5, exponent=0.7),
    Dirichlet(clients=4, alpha=2.0, min_rows=1),
    Shards(clients=6, shards_each=2),
    Labels(clients=4, labels_each=2),
    Features(clients=3, alpha=0.3),
)
SCALINGS = (
    AsIs(),
    Divide(by=16),
    Given(mean=(2,), std=(4,)),
    Standardize(),
    Standardize(per="client", ddof=1),
)
SOURCES_WITHOUT_A_FILE = (
    Digits(),
    BreastCancer(),
    Iris(),
    Wine(),
    Diabetes(),
    Linnerud(target="pulse"),
    Line(),
    CustomSource(target=f"{USER_CODE}:load_rows", options={"rows": 30}),
)
SOURCES = (
    *SOURCES_WITHOUT_A_FILE,
    Csv(path="table.csv", target="y"),
    Parquet(path=("a.parquet", "b.parquet"), target="y", target_above=0.5, missing=0.0),
    Npz(path="arrays.npz", shape=(28, 28, 1), keys="site"),
    Idx(path="mnist", names=("no", "yes")),
    Images(path="pictures", size=(32, 48), client="folder"),
    Windows(path=("a.csv", "b.csv"), past=12, client="file", target="speed"),
    Ratings(path="u.data", user=0, item=1, rating=2, separator="\t"),
    Text(path="play.txt", alphabet="abc \n"),
)
KERAS_SOURCES = (KerasDataset(name="mnist"), KerasDataset(name="imdb", words=1000, length=50))
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
ATTACKS = (
    SignFlip(count=1),
    SignFlip(clients=("client-0",), scale=4.0),
    Gaussian(share=0.3, deviation=0.5),
    LabelFlip(count=1),
    LabelFlip(share=0.5, to="next"),
    Alie(count=2),
    Alie(count=1, deviations=1.5, rounds=Rounds(first=2, last=3)),
    InnerProduct(count=1, factor=0.5),
    Backdoor(count=1, size=1, value=2.5, scale=4.0),
    Backdoor(share=0.5, target=1, size=1, poisoned=1.0),
    FreeRider(count=1),
    FreeRider(share=0.3, deviation=0.01),
)
GATES = (
    AtLeast(metric="accuracy", value=0.5),
    AtMost(metric="loss", value=2.0),
    AtMost(metric="mae", value=2.0),
    NotWorse(metric="accuracy", by=0.02),
    NotWorse(metric="loss", by=0.0),
    WorstClient(metric="accuracy", by=0.1),
    WorstClient(metric="mae", by=0.0),
    Epsilon(at_most=8.0, unit="client", delta=1e-5),
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
        return _classes(self.union)


def _classes(union: Any) -> set[type]:
    if isinstance(union, type):
        return {union}
    parts = get_args(union)
    return set().union(*map(_classes, parts[:1] if get_origin(union) is Annotated else parts))


FAMILIES = {
    "AnyRule": Family(AnyRule, RULES),
    "AnySelector": Family(AnySelector, SELECTORS),
    "AnyTransform": Family(AnyTransform, TRANSFORMS),
    "AnyServerOptimizer": Family(AnyServerOptimizer, SERVER_OPTIMIZERS),
    "AnyPartition": Family(AnyPartition, PARTITIONS),
    "AnyScaling": Family(AnyScaling, SCALINGS),
    "AnySource": Family(AnySource, SOURCES),
    "AnyData": Family(AnyData, (*SOURCES, *KERAS_SOURCES)),
    "AnyLocalOptimizer": Family(AnyLocalOptimizer, LOCAL_OPTIMIZERS),
    "AnyCorrection": Family(AnyCorrection, CORRECTIONS),
    "AnySchedule": Family(AnySchedule, SCHEDULES),
    "AnyWork": Family(AnyWork, WORK),
    "AnyAttack": Family(AnyAttack, ATTACKS),
    "AnyGate": Family(AnyGate, GATES),
}
