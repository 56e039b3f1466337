"""Which versions keep their weights. What is known of a version is kept for ever."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from federated.component import ByKind, Component, Metrics
from federated.engine import SMALLER_IS_BETTER
from federated.gates import Metric


class Kept(NamedTuple):
    """What a policy may look at, of one version; ``metrics`` are its round's."""

    version: str
    run_id: str
    round: int
    metrics: Metrics


class Retention(Component, ABC):
    """A policy. Versions with an alias, versions that were ever promoted and the last of each run it cannot touch."""

    @abstractmethod
    def keeps(self, versions: Sequence[Kept]) -> set[str]:
        """The versions whose weights stay, of those given."""


class KeepAll(Retention):
    """Every version keeps its weights."""

    kind: Literal["all"] = "all"

    def keeps(self, versions: Sequence[Kept]) -> set[str]:
        return {kept.version for kept in versions}


class KeepEvery(Retention):
    """Every ``rounds``-th round of a training; where that is no version, the next one that is."""

    kind: Literal["every"] = "every"
    rounds: int = Field(ge=1)

    def keeps(self, versions: Sequence[Kept]) -> set[str]:
        reached: dict[tuple[str, int], Kept] = {}  # a run and how often ``rounds`` has passed: the first version then
        for kept in sorted(versions, key=lambda kept: kept.round):
            reached.setdefault((kept.run_id, kept.round // self.rounds), kept)
        return {kept.version for (_, times), kept in reached.items() if times > 0}


class KeepBest(Retention):
    """The ``versions`` best of each training, by a metric of their rounds; those not evaluated are not among them."""

    kind: Literal["best"] = "best"
    metric: Metric = "loss"
    versions: int = Field(default=1, ge=1)

    def keeps(self, versions: Sequence[Kept]) -> set[str]:
        sign = 1.0 if SMALLER_IS_BETTER[self.metric] else -1.0
        measured = [kept for kept in versions if math.isfinite(kept.metrics.get(self.metric, math.nan))]
        ranked = sorted(measured, key=lambda kept: (sign * kept.metrics[self.metric], int(kept.version)))
        best: dict[str, list[str]] = {}
        for kept in ranked:
            best.setdefault(kept.run_id, []).append(kept.version)
        return {version for ranking in best.values() for version in ranking[: self.versions]}


class KeepPromoted(Retention):
    """None but those that no policy can touch."""

    kind: Literal["promoted"] = "promoted"

    def keeps(self, versions: Sequence[Kept]) -> set[str]:
        return set()


AnyRetention = Annotated[KeepAll | KeepEvery | KeepBest | KeepPromoted, Field(discriminator="kind"), ByKind()]
