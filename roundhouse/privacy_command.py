"""``roundhouse privacy``: what a mechanism or a plan would cost, and what a ledger has counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.loading import load_plan, shipped
from configs.plan import Plan
from federated.errors import InputError
from roundhouse.command import DebugOption, JsonOption, SetOption, command
from roundhouse.ledger_command import Statements, of_ledger, of_population, place_of, said, stated
from roundhouse.number_options import ABOVE_ZERO, Wanted, number

if TYPE_CHECKING:
    from federated.privacy.calculator import Answer
    from roundhouse.forecast import Forecast
    from tasks.ledger import Statement

app = typer.Typer()

_DELTA = 1e-5
_WANTED = {
    "--sampling-rate": Wanted("a number above 0, at most 1", lambda found: 0 < found <= 1),
    "--noise-multiplier": Wanted("a number from 0 to a million", lambda found: 0 <= found <= 1e6),
    "--rounds": Wanted("a whole number from 1 to a billion", lambda found: 1 <= found <= 1e9, int),
    "--delta": Wanted("a number above 0, below 1", lambda found: 0 < found < 1),
    "--target-epsilon": ABOVE_ZERO,
    "--budget": ABOVE_ZERO,
}


def _number_option(help: str) -> Any:
    return typer.Option(metavar="NUMBER", help=help)


@app.command()
def privacy(
    subject: Annotated[
        str, typer.Argument(metavar="[PLAN|LEDGER]", help="A plan; or a population's name, or its ledger's path.")
    ] = "",
    overrides: SetOption = [],  # noqa: B006 - Typer reads it, nobody changes it
    sampling_rate: Annotated[str | None, _number_option("Probability of each unit, above 0; 1.")] = None,
    noise_multiplier: Annotated[str | None, _number_option("Noise over clip norm.")] = None,
    rounds: Annotated[str | None, _number_option("How many.")] = None,
    delta: Annotated[str | None, _number_option("Of (epsilon, delta), between 0 and 1; 1e-5.")] = None,
    target_epsilon: Annotated[str | None, _number_option("Asks for the noise.")] = None,
    budget: Annotated[str | None, _number_option("A limit to epsilon: asks for the rounds.")] = None,
    set_budget: Annotated[
        str | None, typer.Option(metavar="EPSILON|none", help="Gives a ledger another budget, on record.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Says what a plan would cost, or what a ledger has counted; without either it is a calculator."""
    with command(debug) as streams:
        mechanism = _numbers(
            {
                "--sampling-rate": sampling_rate,
                "--noise-multiplier": noise_multiplier,
                "--rounds": rounds,
                "--delta": delta,
            }
        )
        limits = _numbers({"--target-epsilon": target_epsilon, "--budget": budget})
        found: Forecast | Statement | Statements | Answer
        if not subject:
            _refuse({"--set-budget": set_budget, "--set": overrides or None}, "is for a plan or a ledger; name it")
            found = _answer(mechanism, limits)
        elif _is_plan(subject):
            _refuse(mechanism | {"--set-budget": set_budget}, "the plan says it; change that by --set")
            found = _forecast(load_plan(subject, overrides), limits["--target-epsilon"], limits["--budget"])
        else:
            _refuse(mechanism | limits | {"--set": overrides or None}, "is no question to a ledger")
            found = stated(subject, set_budget)
        if as_json:
            streams.out.file.write(json.dumps(found.as_json()) + "\n")
            return
        for label, value in _described(found):
            streams.out.print(f"{label:24}{value}", highlight=False, markup=False, soft_wrap=True)


def _numbers(typed: Mapping[str, str | None]) -> dict[str, Any]:
    return {name: None if text is None else number(name, text, _WANTED[name]) for name, text in typed.items()}


def _refuse(options: Mapping[str, Any], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name}: {why}")


def _is_plan(subject: str) -> bool:
    path, plan = Path(subject), shipped().get(subject)
    if plan is not None and (ledger := place_of(subject)) is not None:
        raise InputError(f"{subject}: a shipped plan, and a population too; name the file, {plan} or {ledger}")
    return plan is not None or (path.is_file() and path.suffix in (".yaml", ".yml"))


def _answer(mechanism: dict[str, Any], limits: dict[str, Any]) -> Answer:
    from federated.privacy.calculator import answer

    return answer(
        mechanism["--sampling-rate"] or 1.0,
        mechanism["--delta"] or _DELTA,
        mechanism["--noise-multiplier"],
        mechanism["--rounds"],
        limits["--target-epsilon"],
        limits["--budget"],
    )


def _forecast(plan: Plan, target: float | None, budget: float | None) -> Forecast:
    from roundhouse.forecast import forecast

    return forecast(plan, target, budget)


def _described(found: Forecast | Answer | Statement | Statements) -> Iterator[tuple[str, str]]:
    """An ε never stands without its unit, δ, neighbours and sampling."""
    from federated.privacy.calculator import Answer
    from roundhouse.forecast import Forecast

    if isinstance(found, Forecast):
        yield from _of_plan(found)
    elif isinstance(found, Answer):
        yield from _of_rounds(found)
    elif isinstance(found, Statements):
        yield from of_population(found)
    else:
        yield from of_ledger(found)


def _of_plan(found: Forecast) -> Iterator[tuple[str, str]]:
    spent = sum(run.times for run in found.payer.spent)
    most = ", which pays most" if found.unit == "record" else ""
    yield "population", found.payer.population + most + (f", {spent:,} releases spent before" if spent else "")
    yield "epsilon", said(found.answer.epsilon)
    yield "epsilon is of", found.means
    yield "noise multiplier", f"{found.answer.noise_multiplier:g}"
    yield "rounds", _rounds(found.answer)
    if found.unit == "record":
        yield "steps a round", f"{found.payer.times:,}, where it takes part in every round"
    if found.exceeded:
        yield "the budget asked for", f"{found.asked:g}: more than that is spent already"
    if found.within < found.answer.rounds:
        ends = "ends the training" if found.unit == "client" else "keeps it out"
        yield "the plan's budget", f"{found.budget:g}: it {ends} after {found.within:,} rounds"


def _of_rounds(found: Answer) -> Iterator[tuple[str, str]]:
    from federated.privacy.calculator import NEIGHBOURS

    drawn = "every unit, no sampling" if found.sampling == "none" else "each unit by itself (Poisson)"
    yield "epsilon", said(found.epsilon)
    yield "delta", f"{found.delta:g}"
    yield "noise multiplier", f"{found.noise_multiplier:g}"
    yield "sampling rate", f"{found.sampling_rate:g}, {drawn}"
    yield "rounds", _rounds(found)
    yield "neighbours differ in", NEIGHBOURS.said


def _rounds(found: Answer) -> str:
    """How many; none, and the most that are looked for, are no plain numbers."""
    from federated.privacy.accounting import MOST

    if not found.rounds:
        return "0, even one costs more than the budget"
    return ("at least " if found.rounds == MOST else "") + f"{found.rounds:,}"
