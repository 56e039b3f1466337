"""Whose privacy a training spends, and what a plan must not do beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from configs import environment
from federated.component import Component
from federated.errors import PlanError
from federated.privacy.neighbours import Neighbours

if TYPE_CHECKING:
    from configs.plan import Plan
    from federated.data import Dataset
    from federated.federation import Federation

_NOTHING_TO_COUNT = (
    "privacy: nothing in the plan adds noise, so there is nothing to count; add central_gaussian to "
    "algorithm.transforms or set algorithm.local.dp_sgd, or leave privacy out"
)
_ZERO_OUT = {
    "message": "all that one client sends, or zero updates in its place",
    "sum": "one client in sums of at least {least}, or zero updates in its place",
}
_ALL_OF_A_TRAINING = "one client's updates in all rounds of a training, or zero updates in their place"
_RECORD = "one record of a client, or zero gradients in its place"
_FILLED = "values would be filled by numbers found from all clients' rows, without noise"
_SIMULATED = "; in a simulation, which protects nobody"


class Privacy(Component):
    """The ledger that a training with noise pays into: that of a ``population``, which other trainings may share.

    Where records are hidden, not clients, every client of the population has a ledger of its own. A round that would
    bring ε above ``budget`` is not begun; null counts without a limit. ``delta`` is that of (ε, δ).
    """

    population: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    delta: float = Field(gt=0, lt=1)
    budget: float | None = Field(gt=0, description="largest epsilon; null: counted without a limit")

    @field_validator("population")
    @classmethod
    def _has_a_place_of_its_own(cls, population: str) -> str:
        if population == environment.SIMULATIONS:
            raise ValueError(f"{population} is the folder of simulations' ledgers; give the population another name")
        return population


def neighbours(plan: Plan) -> Neighbours | None:
    """What a release of this plan is counted with; None where nothing adds noise."""
    found = _differing(plan)
    if found is None or not plan.simulation:
        return found
    return found.model_copy(update={"said": found.said + _SIMULATED})


def _differing(plan: Plan) -> Neighbours | None:
    algorithm = plan.algorithm
    if algorithm.unit is None:
        return None
    if algorithm.sized is not None:
        return Neighbours(relation="zero_out", said=_ALL_OF_A_TRAINING)
    if algorithm.noised_by == "clients":
        return Neighbours(relation="zero_out", said=_ZERO_OUT[algorithm.hides].format(least=algorithm.survivors))
    if algorithm.unit == "record":  # how many records a client has is told: it sets the steps, and weighs updates
        return Neighbours(relation="zero_out", said=_RECORD)
    return Neighbours(relation="add_or_remove_one", said="one client, added or removed")


def meaning(plan: Plan) -> str:
    """What an ε of this plan is one of: no ε is shown without it."""
    found, privacy = _differing(plan), plan.privacy
    if found is None or privacy is None:
        return ""
    return f"{found.said}; delta {privacy.delta:g}; {_sampling(plan, found)}{_SIMULATED if plan.simulation else ''}"


def _sampling(plan: Plan, counted: Neighbours) -> str:
    if plan.algorithm.unit == "record":
        batch = plan.algorithm.local.batch_size
        return f"Poisson batches of {batch}" if batch else "all rows"
    if counted.relation == "zero_out":
        return "no sampling: who takes part is known"
    rate = plan.algorithm.sampling_rate
    return "everybody takes part" if rate == 1 else f"Poisson sampling at {rate:g}"


def epsilon_said(means: str, epsilon: float) -> str:
    """An ε with what it ``means``."""
    return f"epsilon {epsilon:.4f} ({means})"


def too_often(plan: Plan, clients: int) -> str | None:
    """That one of so many clients could be in more rounds than noise is sized for, where it could."""
    sized, select = plan.algorithm.sized, plan.algorithm.select
    turns = select.most_turns(plan.rounds, clients)
    if sized is None or turns <= sized.participations:
        return None
    return (
        f"algorithm.select.{select.kind}: a client may be in {turns} of {plan.rounds} rounds, but noise is sized for "
        f"{sized.participations}; raise participations to {turns}, or use round_robin with a small cohort"
    )


def objections(plan: Plan) -> list[str]:
    """What keeps the plan's ε from being true."""
    unit, algorithm, scaling = plan.algorithm.unit, plan.algorithm, plan.scaling
    if unit is None:
        return [] if plan.privacy is None else [_NOTHING_TO_COUNT]
    real, sized = not plan.simulation, algorithm.sized
    found = {
        "privacy: the plan adds noise, and nobody counts what it costs; set privacy to a population, a delta and a "
        "budget": plan.privacy is None,
        "algorithm: whoever knows the seed can take seeded noise away again; set seeded: false, or simulation: true": (
            real and not algorithm.secret
        ),
        f"rounds: {plan.rounds}, but noise is sized for {sized and sized.rounds}; raise rounds of the transform that "
        "adds it": sized is not None and plan.rounds > sized.rounds,
        "commit_every: noise that cannot be drawn again is kept with every round; set commit_every to 1": (
            algorithm.secret and plan.commit_every > 1
        ),
        "quorum: to break a round off would tell how many clients were in it, which noise hides; leave it out": (
            algorithm.noised_by == "server" and plan.quorum > 1
        ),
        f"scaling.{scaling.kind}: the model would carry numbers found from all clients' rows, without noise; "
        "use per: client, given, divide, or as_is": unit == "client" and scaling.reveals,
        f"scaling.{scaling.kind}: what rows are scaled by depends on all of them, which dp_sgd does not count; use "
        "given, divide, or as_is": unit == "record" and scaling.fitted,
        f"data.missing: {_FILLED}; give a number, or drop": getattr(plan.data, "missing", None) in ("mean", "median"),
        "baselines: they tell of clients' rows without noise; leave them to simulations": real and plan.baselines,
        "stop: at_least, at_most and patience go by clients' rows, which is not counted; stop by minutes, or by the "
        "budget": real and plan.stop is not None and plan.stop.measures,
    }
    return [said for said, holds in found.items() if holds]


def check_counted(plan: Plan, dataset: Dataset, federation: Federation) -> None:
    """That the data fit what is counted: who has a record, what values are filled by, and how large delta may be.

    Raises:
        PlanError: they do not.
    """
    unit, privacy = plan.algorithm.unit, plan.privacy
    if unit is None or privacy is None:
        return
    if dataset.blanks is not None:
        raise PlanError(f"data.{plan.data.kind}: {_FILLED}")
    if unit == "record" and not plan.simulation and not federation.natural:
        raise PlanError(
            f"partition.{plan.partition.kind}: what a record has paid is counted by the client that holds it, and here "
            "that is dealt out anew with another seed, number of clients or partition; use natural, or simulation: true"
        )
    most = max(len(client.train) for client in federation.clients.values())
    units, what = (most, "records") if unit == "record" else (len(federation.clients), "clients")
    if privacy.delta * units >= 1:
        raise PlanError(
            f"privacy.delta: {privacy.delta:g} with {units} {what} allows to reveal one of them; set it well "
            f"below {1 / units:.2g}"
        )
