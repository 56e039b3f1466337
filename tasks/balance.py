"""What a ledger has counted, at one moment: from it follows what was spent, and what more may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import Field

from federated.component import Component
from federated.privacy.accounting import COARSE, Epsilon, SelfComposed, affordable, epsilon, merged, tight, within
from federated.privacy.neighbours import Neighbours, Relation, Sampling, common, sampling
from federated.privacy.releases import Release, Unit

_SAMPLING_SAID: dict[Sampling, str] = {"poisson": "Poisson sampling", "none": "no sampling"}


class Terms(Component):
    """Whose privacy a ledger counts, and in what. Only the budget can change later, by ``amend``."""

    population: str = Field(min_length=1)
    unit: Unit
    delta: float = Field(gt=0, lt=1)
    budget: float | None = Field(default=None, gt=0, description="largest epsilon; null: counted without a limit")


class Counted(NamedTuple):
    """What a release is counted with: an ε is never shown without it."""

    release: Release
    neighbours: Neighbours

    @property
    def said(self) -> str:
        """How neighbours differ, and the sampling."""
        return f"{self.neighbours.said}; {_SAMPLING_SAID[sampling([self.release])]}"


class Line(NamedTuple):
    """The same release, counted with the same, so many times."""

    counted: Counted
    times: int

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        release, neighbours = self.counted
        assumed = {"relation": neighbours.relation, "neighbours": neighbours.said, "sampling": sampling([release])}
        return {"release": release.model_dump(), "times": self.times} | assumed


class Outlook(NamedTuple):
    """ε so far, ε were the same release made once more, and how often it still can be; None without a budget."""

    epsilon: float
    after_next: float
    remaining: int | None


class Balance(NamedTuple):
    """What was spent, and on which terms. ε, ``relation`` and ``sampling`` are of all lines together."""

    terms: Terms
    lines: tuple[Line, ...]

    @property
    def spent(self) -> tuple[SelfComposed, ...]:
        """All that an accountant needs."""
        return tuple(merged(SelfComposed(line.counted.release, line.times) for line in self.lines))

    @property
    def relation(self) -> Relation:
        """What neighbouring data differ in: the weaker of what the lines say, where they say both."""
        return common(line.counted.neighbours.relation for line in self.lines)

    @property
    def sampling(self) -> Sampling:
        """What is assumed of who takes part: sampling, where any of the lines is counted with it."""
        return sampling(line.counted.release for line in self.lines)

    @property
    def said(self) -> str:
        """How neighbours differ, and the sampling: of all lines together, and of each kind where there are several."""
        kinds = _distinct(line.counted.said for line in self.lines)
        if len(kinds) < 2:
            return "".join(kinds) or "nothing was released"
        together = f"all of it, where zeros are in the place of what one {self.terms.unit} sends: "
        return (together if self.relation == "zero_out" else "") + " | ".join(kinds)

    def beside(self, counted: Counted) -> str:
        """What else its ε is of than such a release; empty where all is counted with the same."""
        others = [said for said in _distinct(line.counted.said for line in self.lines) if said != counted.said]
        return f"; and of what was paid beside it: {' | '.join(others)}" if others else ""

    def epsilon(self) -> Epsilon:
        """By both accountants, as finely as they can."""
        return epsilon(self.spent, self.terms.delta)

    def coarse(self) -> float:
        """By the accountant that the budget goes by: rounded up, but never from within the budget to above it."""
        return self._coarse(self.spent)

    def after(self, more: SelfComposed) -> float:
        """The same, were so much more paid."""
        return self._coarse([*self.spent, more])

    def fits(self, more: SelfComposed) -> bool:
        """Whether so much more is within the budget."""
        budget = self.terms.budget
        return budget is None or within([*self.spent, more], self.terms.delta, budget)

    def _coarse(self, spent: Sequence[SelfComposed]) -> float:
        found, delta, budget = tight(spent, self.terms.delta, COARSE), self.terms.delta, self.terms.budget
        return found if budget is None or not within(spent, delta, budget) else min(found, budget)

    def remaining(self, release: Release) -> int | None:
        """How many such releases are left; None without a budget."""
        if self.terms.budget is None:
            return None
        beside = tuple(run for run in self.spent if run.release != release)
        made = sum(run.times for run in self.spent if run.release == release)
        return max(_affordable(release, self.terms.budget, self.terms.delta, beside) - made, 0)

    def outlook(self, release: Release, times: int) -> Outlook:
        """Where the budget stands, for one who makes so many of this release again and again."""
        left = self.remaining(release)
        after = self.after(SelfComposed(release, times))
        return Outlook(self.coarse(), after, None if left is None else left // times)

    def exceeded(self, more: Line, buys: str) -> str:
        """That so much more, which ``buys`` something, is not within the budget."""
        terms, release = self.terms, more.counted.release
        after = self._replace(lines=(*self.lines, more))
        return (
            f"privacy budget of {terms.population}: epsilon {self.coarse():.4g} is spent, {buys} would make it "
            f"{self.after(SelfComposed(release, more.times)):.4g}, more than {terms.budget:g} "
            f"(unit {terms.unit}, delta {terms.delta:g}; {after.said})"
        )


@lru_cache(maxsize=256)
def _affordable(release: Release, budget: float, delta: float, beside: tuple[SelfComposed, ...]) -> int:
    """Counted once for what else was spent: each release then takes one of them."""
    return affordable(release, budget, delta, beside)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
