"""Gates: what a candidate must show to replace the champion."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from federated.comparison import client_losses, losses, measured, upper_bound
from federated.component import ByKind, Component
from federated.engine import SMALLER_IS_BETTER
from federated.engine import Scores as RowScores
from federated.privacy.releases import Unit

Metric = Literal["accuracy", "loss", "mae"]


class Privacy(NamedTuple):
    """What a training has spent: ε of one ``unit`` at a ``delta``, and whether only a simulation has.

    ``assumed`` says how neighbouring data differ, and what is assumed of sampling.
    """

    epsilon: float
    unit: str
    delta: float
    simulated: bool
    assumed: str

    def __str__(self) -> str:
        return f"{self.epsilon:.6g} of a {self.unit}, delta {self.delta:g}, {self.assumed}"


class Scores(NamedTuple):
    """All that a gate may look at, of one model.

    ``test`` has each metric on the server's test rows and ``clients`` on each client's own, as ``Engine.score``
    gives them. ``privacy`` is what was spent, None for a training without a privacy guarantee. ``latency`` is in
    seconds a prediction, ``size`` in bytes; ``schema`` is the model's signature as plain JSON values; ``attacked`` says
    that clients attacked in its training.
    """

    test: RowScores
    clients: dict[str, RowScores]
    privacy: Privacy | None
    latency: float
    size: int
    schema: dict[str, Any]
    attacked: bool = False


class Verdict(NamedTuple):
    """What one gate says, in words for a table."""

    gate: str
    passed: bool
    measured: str
    allowed: str
    reason: str


class Gate(Component, ABC):
    """One condition of a promotion. A score that is NaN or infinite never passes, champion or not."""

    kind: str

    @property
    def name(self) -> str:
        """What tables call it; no two gates of a promotion share it."""
        return self.kind

    @abstractmethod
    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        """May ``candidate`` replace ``champion``? Gates that compare pass while there is no champion.

        Raises:
            PlanError: the metric was not measured.
            DataError: there are no test rows, or the two models were scored on different ones.
        """


class MetricGate(Gate, ABC):
    """A gate that looks at one metric."""

    metric: Metric

    @property
    def name(self) -> str:
        return f"{self.kind} {self.metric}"


class AtLeast(MetricGate):
    """The metric's mean over the server's test rows, where larger is better."""

    kind: Literal["at_least"] = "at_least"
    value: float

    @field_validator("metric")
    @classmethod
    def _larger_is_better(cls, metric: Metric) -> Metric:
        if SMALLER_IS_BETTER[metric]:
            raise ValueError(f"smaller is better for {metric}: use at_most, not at_least")
        return metric

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        mean = float(measured(self.name, candidate.test, self.metric).mean())
        passed = math.isfinite(mean) and mean >= self.value
        reason = f"{self.metric} is {'high enough' if passed else _fault(mean, 'too low')}"
        return Verdict(self.name, passed, _number(mean), f"at least {_number(self.value)}", reason)


class AtMost(MetricGate):
    """The metric's mean over the server's test rows, where smaller is better."""

    kind: Literal["at_most"] = "at_most"
    value: float

    @field_validator("metric")
    @classmethod
    def _smaller_is_better(cls, metric: Metric) -> Metric:
        if not SMALLER_IS_BETTER[metric]:
            raise ValueError(f"larger is better for {metric}: use at_least, not at_most")
        return metric

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        mean = float(measured(self.name, candidate.test, self.metric).mean())
        return _limited(self.name, self.metric, mean, self.value)


class NotWorse(MetricGate):
    """A test of non-inferiority: with ``confidence``, the candidate is worse by at most ``by`` on the server's rows.

    Each row gives the candidate's loss of quality against the champion, in the metric's own unit. The gate passes
    when the *upper* confidence bound of their mean is at most ``by``: doubt counts against the candidate, and few
    rows leave much. ``by: 0`` asks it to be proven better, or equal on every row.

    Guarantees: a candidate that is truly worse by more than ``by`` passes with a probability of at most
    1 - ``confidence``, approximately (``upper_bound`` says when it is not).
    """

    kind: Literal["not_worse"] = "not_worse"
    by: float = Field(ge=0)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=2000, ge=1, le=100_000)

    @model_validator(mode="after")
    def _reach_the_tail(self) -> NotWorse:
        needed = round(10 / (1 - self.confidence))  # with fewer than ten means beyond it, chance places the bound
        if self.resamples < needed:
            raise ValueError(f"confidence={self.confidence} needs at least {needed} resamples, got {self.resamples}")
        return self

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        lost = losses(self.name, self.metric, candidate.test, (champion or candidate).test)
        mean, bound = float(lost.mean()), upper_bound(lost, self.confidence, self.resamples, rng)
        allowed = f"at most {_number(self.by)} worse, with {100 * self.confidence:.6g}% confidence"
        if champion is None and math.isfinite(mean):
            return _unopposed(self.name, allowed)
        found = _fault(mean, f"{_change(mean)}, at worst {_change(bound)}")
        return Verdict(self.name, bound <= self.by, found, allowed, self._reason(mean, bound, len(lost)))

    def _reason(self, mean: float, bound: float, rows: int) -> str:
        if bound <= self.by:
            return f"{self.metric} is not worse than allowed"
        if mean > self.by:
            return f"{self.metric} is {_fault(mean, 'worse than allowed')}"
        return f"{rows} test rows cannot rule out that {self.metric} is worse than allowed"


class WorstClient(MetricGate):
    """No client is worse off by more than ``by`` on its own test rows, in the metric's own unit.

    Clients without test rows are left out. Means count as they are, with no allowance for chance: one row of a
    client that has ten moves its accuracy by 0.1.
    """

    kind: Literal["worst_client"] = "worst_client"
    by: float = Field(ge=0)

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        lost = client_losses(self.name, self.metric, candidate.clients, (champion or candidate).clients)
        worst = max(lost, key=lost.__getitem__)
        passed, allowed = lost[worst] <= self.by, f"at most {_number(self.by)} worse"
        if passed and champion is None:
            return _unopposed(self.name, allowed)
        fault = f"{self.metric} of {worst} is {_fault(lost[worst], 'worse than allowed')}"
        reason = "no client is worse off than allowed" if passed else fault
        return Verdict(self.name, passed, f"{worst}: {_change(lost[worst])}", allowed, reason)


class Epsilon(Gate):
    """The privacy spent is at most ``at_most``, of a ``unit`` and at a ``delta`` that the gate names.

    A candidate without a privacy guarantee does not pass, nor one whose ε is of another unit or delta, which says
    nothing of these, or of a simulation: its noise may be taken away again.
    """

    kind: Literal["epsilon"] = "epsilon"
    at_most: float = Field(ge=0)
    unit: Unit
    delta: float = Field(gt=0, lt=1)

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        found = candidate.privacy
        allowed = f"at most {_number(self.at_most)} of a {self.unit}, delta {self.delta:g}"
        if found is None:
            return Verdict(self.name, False, "no guarantee", allowed, "the candidate has no privacy guarantee")
        measured = _fault(found.epsilon, str(found))
        if reason := self._incomparable(found):
            return Verdict(self.name, False, measured, allowed, reason)
        limited = _limited(self.name, "epsilon", found.epsilon, self.at_most)
        return limited._replace(measured=measured, allowed=allowed)

    def _incomparable(self, found: Privacy) -> str:
        if found.simulated:
            return "the candidate is of a simulation, whose noise protects nobody"
        if found.unit != self.unit:
            return f"epsilon is of a {found.unit}, the gate asks for a {self.unit}"
        if found.delta != self.delta:
            return f"epsilon is at delta {found.delta:g}, the gate asks for {self.delta:g}"
        return ""


class Latency(Gate):
    """A prediction takes at most so many milliseconds."""

    kind: Literal["latency"] = "latency"
    milliseconds: float = Field(gt=0)

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        return _limited(self.name, "latency", 1e3 * candidate.latency, self.milliseconds, " ms")


class Size(Gate):
    """The saved model has at most so many megabytes, of a million bytes each."""

    kind: Literal["size"] = "size"
    megabytes: float = Field(gt=0)

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        return _limited(self.name, "size", candidate.size / 1e6, self.megabytes, " MB")


class Schema(Gate):
    """The candidate takes and gives what the champion does, so that nothing that calls it must change."""

    kind: Literal["schema"] = "schema"

    def judge(self, candidate: Scores, champion: Scores | None, rng: np.random.Generator) -> Verdict:
        allowed = "the champion's"
        if champion is None:
            return _unopposed(self.name, allowed)
        if changed := ", ".join(_changed(candidate.schema, champion.schema)):
            return Verdict(self.name, False, f"other {changed}", allowed, f"callers would meet other {changed}")
        return Verdict(self.name, True, "the same", allowed, "nothing that calls the model must change")


AnyGate = Annotated[
    AtLeast | AtMost | NotWorse | WorstClient | Epsilon | Latency | Size | Schema, Field(discriminator="kind"), ByKind()
]


def _limited(gate: str, what: str, value: float, limit: float, unit: str = "") -> Verdict:
    passed = math.isfinite(value) and value <= limit
    reason = f"{what} is {'within the limit' if passed else _fault(value, 'above the limit')}"
    return Verdict(gate, passed, _number(value, unit), f"at most {_number(limit, unit)}", reason)


def _unopposed(gate: str, allowed: str) -> Verdict:
    return Verdict(gate, True, "not compared", allowed, "there is no champion yet")


def _changed(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Keys whose values differ as JSON: a tuple is a list, but 1 is neither 1.0 nor true."""
    texts = [{key: json.dumps(value, sort_keys=True) for key, value in schema.items()} for schema in (ours, theirs)]
    return sorted(key for key in ours.keys() | theirs.keys() if texts[0].get(key) != texts[1].get(key))


def _change(loss: float) -> str:
    return _fault(loss, f"{_number(abs(loss))} {'better' if loss < 0 else 'worse'}")


def _number(value: float, unit: str = "") -> str:
    return _fault(value, f"{value:.6g}{unit}")


def _fault(value: float, otherwise: str) -> str:
    return otherwise if math.isfinite(value) else "NaN or infinite"
