"""``roundhouse privacy``: what a mechanism or a plan would cost, and what a ledger has counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from configs import environment
from configs.loading import load_plan, shipped
from configs.plan import Plan
from configs.privacy import meaning
from federated.errors import InputError
from roundhouse.command import DebugOption, JsonOption, SetOption, command

if TYPE_CHECKING:
    from federated.privacy.accounting import Epsilon, SelfComposed
    from federated.privacy.calculator import Answer
    from tasks.ledger import PrivacyLedger, Statement

app = typer.Typer()

_DELTA = 1e-5


class Forecast(NamedTuple):
    """What a plan's rounds cost its population, after ``spent`` rounds that it has paid for.

    ``within`` is how many of them the plan's budget pays for; ``means`` says what ε is one of.
    """

    answer: Answer
    population: str
    spent: int
    budget: float | None
    within: int
    means: str

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        whose = {"unit": "client", "population": self.population, "spent_before": self.spent}
        return (
            self.answer.as_json()
            | whose
            | {"plan_budget": self.budget, "rounds_within": self.within, "means": self.means}
        )


@app.command()
def privacy(
    subject: Annotated[
        str, typer.Argument(metavar="[PLAN|LEDGER]", help="A plan; or a population's name, or its ledger's path.")
    ] = "",
    overrides: SetOption = [],  # noqa: B006 - Typer reads it, nobody changes it
    sampling_rate: Annotated[float | None, typer.Option(min=0, max=1, help="Probability of each unit; 1.")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(min=0, help="Noise over clip norm.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    delta: Annotated[float | None, typer.Option(min=0, max=1, help="Of (epsilon, delta); 1e-5.")] = None,
    target_epsilon: Annotated[float | None, typer.Option(min=0, help="Asks for the noise.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="A limit to epsilon: asks for the rounds.")] = None,
    set_budget: Annotated[float | None, typer.Option(min=0, help="Gives a ledger another budget, on record.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Says what a plan would cost, or what a ledger has counted; without either it is a calculator."""
    with command(debug) as streams:
        mechanism = {
            "--sampling-rate": sampling_rate,
            "--noise-multiplier": noise_multiplier,
            "--rounds": rounds,
            "--delta": delta,
        }
        limits = {"--target-epsilon": target_epsilon, "--budget": budget}
        found: Forecast | Statement | Answer
        if not subject:
            _refuse({"--set-budget": set_budget, "--set": overrides or None}, "is for a plan or a ledger; name it")
            found = _answer(mechanism, limits)
        elif _is_plan(subject):
            _refuse(mechanism | {"--set-budget": set_budget}, "the plan says it; change that by --set")
            found = _forecast(load_plan(subject, overrides), limits)
        else:
            _refuse(mechanism | limits | {"--set": overrides or None}, "is no question to a ledger")
            found = _statement(subject, set_budget)
        if as_json:
            streams.out.file.write(json.dumps(found.as_json()) + "\n")
            return
        for label, value in _described(found):
            streams.out.print(f"{label:24}{value}", highlight=False, markup=False, soft_wrap=True)


def _refuse(options: Mapping[str, Any], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name}: {why}")


def _is_plan(subject: str) -> bool:
    path = Path(subject)
    return subject in shipped() or (path.is_file() and path.suffix in (".yaml", ".yml"))


def _answer(mechanism: dict[str, Any], limits: dict[str, Any]) -> Answer:
    from federated.privacy.calculator import answer

    given = {"--sampling-rate": 1.0, "--delta": _DELTA} | {
        name: value for name, value in mechanism.items() if value is not None
    }
    for name in ("--sampling-rate", "--delta"):
        if given[name] == 0:
            raise InputError(f"{name}: expected a number above 0, got 0")
    return answer(
        given["--sampling-rate"],
        given["--delta"],
        mechanism["--noise-multiplier"],
        mechanism["--rounds"],
        limits["--target-epsilon"],
        limits["--budget"],
    )


def _forecast(plan: Plan, limits: dict[str, float | None]) -> Forecast:
    from federated.privacy.accounting import affordable
    from federated.privacy.calculator import answer

    release, privacy = plan.algorithm.release, plan.privacy
    if release is None or privacy is None:
        raise InputError(f"{plan.name}: nothing in the plan adds noise, so there is no privacy to count")
    target, budget = limits["--target-epsilon"], limits["--budget"]
    spent = _spent(plan, privacy.population)
    found = answer(
        plan.algorithm.sampling_rate,
        privacy.delta,
        release.noise_multiplier if target is None else None,
        plan.rounds if budget is None else None,
        target,
        budget,
        spent,
        release,
    )
    within = found.rounds
    if privacy.budget is not None and found.epsilon.best > privacy.budget:
        asked = release.model_copy(update={"noise_multiplier": found.noise_multiplier})
        within = affordable(asked, privacy.budget, privacy.delta, spent)
    return Forecast(found, privacy.population, sum(run.times for run in spent), privacy.budget, within, meaning(plan))


def _spent(plan: Plan, population: str) -> tuple[SelfComposed, ...]:
    """What the population has paid; a simulation begins with nothing."""
    path = environment.privacy_ledger(population)
    return _ledger(path).statement().spent if path.exists() and not plan.simulation else ()


def _statement(subject: str, budget: float | None) -> Statement:
    path = environment.privacy_ledger(subject)
    if not path.exists() and not (path := Path(subject)).is_file():
        folder = environment.privacy_ledger(subject).parent
        raise InputError(f"there is no plan {subject}, and no privacy ledger {subject} in {folder}")
    ledger = _ledger(path)
    if budget is not None:
        ledger.amend(budget)
    return ledger.statement()


def _ledger(path: Path) -> PrivacyLedger:
    from tasks.ledger import PrivacyLedger
    from tasks.signing import signer, trusted_keys

    return PrivacyLedger(path, None, signer(), trusted_keys())


def _described(found: Forecast | Answer | Statement) -> Iterator[tuple[str, str]]:
    """An ε never stands without its unit, δ, neighbours and sampling."""
    from federated.privacy.calculator import Answer

    if isinstance(found, Forecast):
        yield "population", found.population + (f", {found.spent:,} rounds spent before" if found.spent else "")
        yield from _of_rounds(found.answer, "client")
        yield "epsilon is of", found.means
        if found.within < found.answer.rounds:
            yield "the plan's budget", f"{found.budget:g}: it ends the training after {found.within:,} rounds"
    elif isinstance(found, Answer):
        yield from _of_rounds(found, "unit")
    else:
        yield from _of_ledger(found)


def _of_rounds(found: Answer, unit: str) -> Iterator[tuple[str, str]]:
    yield "epsilon", _epsilon(found.epsilon)
    yield "delta", f"{found.delta:g}"
    yield "noise multiplier", f"{found.noise_multiplier:g}"
    yield "sampling rate", f"{found.sampling_rate:g}, each {unit} by itself (Poisson)"
    yield "rounds", f"{found.rounds:,}"
    yield "neighbours differ in", f"one {unit}, added or removed"


def _of_ledger(found: Statement) -> Iterator[tuple[str, str]]:
    terms = found.terms
    yield "population", terms.population
    yield "epsilon", _epsilon(found.epsilon) + (f" of {terms.budget:g}" if terms.budget is not None else ", no budget")
    yield "delta", f"{terms.delta:g}"
    yield "neighbours differ in", f"one {terms.unit}, added or removed"
    for release, times in found.spent:
        fields = release.model_dump()
        noise = fields.pop("kind")
        said = ", ".join(f"{name} {value:g}" for name, value in fields.items())
        yield "spent", f"{times:,} × {said} ({'Poisson' if 'sampling_rate' in fields else noise})"
    yield "trainings", f"{len(found.runs):,}"
    yield "entries", f"{found.entries:,}, the last is {found.head[:12]}"


def _epsilon(found: Epsilon) -> str:
    other = "" if found.pld is None or found.rdp is None else f" (by Rényi divergences {found.rdp:.4f})"
    return f"{found.best:.4f}{other}"
