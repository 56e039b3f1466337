"""Whose privacy a training spends, and what a plan must not do beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from federated.component import Component

if TYPE_CHECKING:
    from configs.plan import Plan

Unit = Literal["client", "record"]
"""What neighbouring data differ in: all that a client holds, or one of its rows."""


_NOTHING_TO_COUNT = (
    "privacy: nothing in the plan adds noise, so there is nothing to count; add central_gaussian to "
    "algorithm.transforms, or leave privacy out"
)
_ZERO_OUT = {
    "message": "what one client sends in a round, or a zero update in its place",
    "sum": "one client in a sum of at least {least}, or a zero update in its place",
}


class Privacy(Component):
    """The ledger that a training with noise pays into: that of a ``population``, which other trainings may share.

    A round that would bring ε above ``budget`` is not begun; null counts without a limit. ``delta`` is that of
    (ε, δ)-differential privacy.
    """

    population: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    delta: float = Field(gt=0, lt=1)
    budget: float | None = Field(gt=0, description="largest epsilon; null: counted without a limit")


def meaning(plan: Plan) -> str:
    """What an ε of this plan is one of: no ε is shown without it."""
    algorithm, privacy = plan.algorithm, plan.privacy
    if algorithm.release is None or privacy is None:
        return ""
    if algorithm.noised_by == "clients":
        said = _ZERO_OUT[algorithm.hides].format(least=algorithm.survivors)
        return f"{said}; delta {privacy.delta:g}; no sampling: who takes part is known"
    rate = algorithm.sampling_rate
    drawn = "everybody takes part" if rate == 1 else f"Poisson sampling at {rate:g}"
    return f"one client, added or removed; delta {privacy.delta:g}; {drawn}"


def epsilon_said(plan: Plan, epsilon: float) -> str:
    """An ε with what it means."""
    return f"epsilon {epsilon:.4f} ({meaning(plan)})"


def objections(plan: Plan) -> list[str]:
    """What keeps the plan's ε from being true."""
    if plan.algorithm.release is None:
        return [] if plan.privacy is None else [_NOTHING_TO_COUNT]
    real = not plan.simulation
    found = {
        "privacy: the plan adds noise, and nobody counts what it costs; set privacy to a population, a delta and a "
        "budget": plan.privacy is None,
        "algorithm.transforms: whoever knows the seed can take seeded noise away again; set seeded: false, or "
        "simulation: true": real and not plan.algorithm.secret,
        "commit_every: noise that cannot be drawn again is kept with every round; set commit_every to 1": (
            plan.algorithm.secret and plan.commit_every > 1
        ),
        "quorum: to break a round off would tell how many clients were in it, which noise hides; leave it out": (
            plan.quorum > 1 and plan.algorithm.noised_by == "server"
        ),
        f"scaling.{plan.scaling.kind}: the model would carry numbers found from all clients' rows, without noise; "
        "use per: client, divide, or as_is": plan.scaling.reveals,
        "baselines: they tell of clients' rows without noise; leave them to simulations": real and plan.baselines,
        "stop: at_least, at_most and patience go by clients' rows, which is not counted; stop by minutes, or by the "
        "budget": real and plan.stop is not None and plan.stop.measures,
    }
    return [said for said, holds in found.items() if holds]
