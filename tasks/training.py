"""What the tasks of one training share, and how it travels between them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from configs.plan import Plan
from federated.component import Metrics
from federated.engine import Engine
from federated.evaluation import ClientTests
from federated.federation import Federation

Value = TypeVar("Value")


class Sealed(Generic[Value]):
    """A value that Prefect passes from task to task without looking inside.

    Prefect walks through collections and data classes to find futures: with a thousand updates that is the larger part
    of a round.
    """

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: Value) -> None:
        self.value = value


class Training:
    """A plan brought to life: the parties, those of them that attack, the engine, and the sign to stop.

    Noise that is secret, and drawn more than once, is drawn with ``noise_key``.
    """

    def __init__(self, plan: Plan, federation: Federation, engine: Engine, noise_key: bytes = b"") -> None:
        self.plan, self.federation, self.engine, self.noise_key = plan, federation, engine, noise_key
        self.adversary = plan.adversary(federation)
        self.client_tests = ClientTests(list(federation.clients.values()))
        self.cancelled = threading.Event()


@dataclass(frozen=True, slots=True)
class At:
    """Which round of which plan: what a task run's name says."""

    plan: str
    round: int

    def __str__(self) -> str:
        return f"{self.plan} round {self.round}"


@dataclass(frozen=True, slots=True)
class Span:
    """Rounds of a plan that are one block, both ends included: what its task run's name says."""

    plan: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.plan} rounds {self.first}-{self.last}"


class Evaluated(NamedTuple):
    """The global model on the server's validation rows, if any, and on each client's own test rows."""

    metrics: Metrics
    spread: tuple[float, ...]
    per_client: Mapping[str, Metrics]


class Contribution(NamedTuple):
    """What a client sent in a round: the digest of its update, and what it weighed."""

    client: str
    sha256: str
    weight: float


@dataclass(frozen=True, slots=True)
class RoundReport:
    """What a round did: who contributed what, who was left out because of NaN or infinity, and its numbers.

    ``selection`` says who was eligible, and of whom there is something to say why he was chosen or not.
    ``spread`` has percentiles 0, 10, 50, 90 and 100 of the score on clients' own test rows; ``per_client`` has each
    client's numbers, in the latest round only. Both are empty where the round was not evaluated.
    """

    round: int
    contributions: tuple[Contribution, ...]
    left_out: tuple[str, ...]
    metrics: Metrics
    spread: tuple[float, ...]
    per_client: Mapping[str, Metrics]
    selection: Mapping[str, Any] = field(default_factory=dict)
    means: str = ""

    @property
    def cohort(self) -> tuple[str, ...]:
        """Everyone who trained."""
        return tuple(sorted([*(sent.client for sent in self.contributions), *self.left_out]))

    def as_json(self) -> dict[str, Any]:
        """To keep, without ``per_client`` and ``means``."""
        return {
            "contributions": [list(sent) for sent in self.contributions],
            "left_out": list(self.left_out),
            "metrics": self.metrics,
            "spread": list(self.spread),
            "selection": dict(self.selection),
        }

    @classmethod
    def from_json(cls, round: int, kept: Mapping[str, Any]) -> RoundReport:
        """What was kept; ``per_client`` and ``means`` are empty."""
        sent = tuple(Contribution(*values) for values in kept["contributions"])
        numbers, selection = dict(kept["metrics"]), kept.get("selection", {})
        return cls(round, sent, tuple(kept["left_out"]), numbers, tuple(kept["spread"]), {}, selection)

    @property
    def seconds(self) -> float:
        """Wall-clock time, without registration, which runs beside the next round."""
        return self.metrics["seconds_round"]

    @property
    def scores(self) -> Metrics:
        """What was measured on the server's validation rows; where it has none, medians over clients' own test rows."""
        names = ("loss", "accuracy", "mae")
        found = {name: self.metrics[name] for name in names if name in self.metrics}
        medians = {name: f"client_{name}_median" for name in names}
        return found or {f"median {name}": self.metrics[key] for name, key in medians.items() if key in self.metrics}

    def __str__(self) -> str:
        scores = [f"{name} {value:.4f}" for name, value in self.scores.items()]
        left_out = f", left out {', '.join(self.left_out)} (NaN or infinity)" if self.left_out else ""
        clients = f"{len(self.cohort)} clients" if self.cohort else "too few clients, the model stays as it is"
        parts = [f"round {self.round}: {clients}", *scores, f"{self.seconds:.2f} s{left_out}"]
        return ", ".join(parts)
