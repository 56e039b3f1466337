"""``roundhouse privacy``: what a mechanism or a plan would cost, and what a ledger has counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote, unquote

import typer

from configs import environment
from configs.loading import load_plan, shipped
from configs.plan import Plan
from federated.errors import InputError
from roundhouse.command import DebugOption, JsonOption, SetOption, command

if TYPE_CHECKING:
    from federated.privacy.accounting import Epsilon
    from federated.privacy.calculator import Answer
    from roundhouse.forecast import Forecast
    from tasks.ledger import PrivacyLedger, Statement

app = typer.Typer()

_DELTA = 1e-5
_NAMED = 10  # clients that a message names


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
            found = _forecast(load_plan(subject, overrides), target_epsilon, budget)
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


def _forecast(plan: Plan, target: float | None, budget: float | None) -> Forecast:
    from roundhouse.forecast import forecast

    return forecast(plan, target, budget)


def _statement(subject: str, budget: float | None) -> Statement:
    path = environment.privacy_ledger(quote(subject))
    if not path.exists() and not (path := Path(subject)).is_file():
        raise InputError(_no_ledger(subject))
    ledger = _ledger(path)
    if budget is not None:
        ledger.amend(budget)
    return ledger.statement()


def _no_ledger(subject: str) -> str:
    folder = environment.privacy_ledger(subject).parent
    clients = sorted(unquote(path.stem) for path in (folder / subject).glob("*.db"))
    if clients:
        more = " …" if len(clients) > _NAMED else ""
        return f"{subject}: its clients have ledgers of their own; name one: {subject}/{clients[0]}" + (
            f" (or {', '.join(clients[1:_NAMED])}{more})" if len(clients) > 1 else ""
        )
    return f"there is no plan {subject}, and no privacy ledger {subject} in {folder}"


def _ledger(path: Path) -> PrivacyLedger:
    from tasks.ledger import PrivacyLedger
    from tasks.signing import signer, trusted_keys

    return PrivacyLedger(path, None, signer(), trusted_keys())


def _described(found: Forecast | Answer | Statement) -> Iterator[tuple[str, str]]:
    """An ε never stands without its unit, δ, neighbours and sampling."""
    from federated.privacy.calculator import Answer
    from roundhouse.forecast import Forecast

    if isinstance(found, Forecast):
        yield from _of_plan(found)
    elif isinstance(found, Answer):
        yield from _of_rounds(found, "unit")
    else:
        yield from _of_ledger(found)


def _of_plan(found: Forecast) -> Iterator[tuple[str, str]]:
    spent = sum(run.times for run in found.payer.spent)
    most = ", which pays most" if found.unit == "record" else ""
    yield "population", found.payer.population + most + (f", {spent:,} releases spent before" if spent else "")
    yield "epsilon", _epsilon(found.answer.epsilon)
    yield "epsilon is of", found.means
    yield "noise multiplier", f"{found.answer.noise_multiplier:g}"
    yield "rounds", f"{found.answer.rounds:,}"
    if found.unit == "record":
        yield "steps a round", f"{found.payer.times:,}, where it takes part in every round"
    if found.within < found.answer.rounds:
        ends = "ends the training" if found.unit == "client" else "keeps it out"
        yield "the plan's budget", f"{found.budget:g}: it {ends} after {found.within:,} rounds"


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
