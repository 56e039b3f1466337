"""``roundhouse privacy``: what a mechanism would cost, and what a ledger has counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import environment
from federated.errors import InputError
from roundhouse.command import DebugOption, JsonOption, command

if TYPE_CHECKING:
    from federated.privacy.accounting import Epsilon
    from federated.privacy.calculator import Answer
    from tasks.ledger import Statement

app = typer.Typer()


@app.command()
def privacy(
    ledger: Annotated[str, typer.Argument(metavar="LEDGER", help="A population's name, or the ledger's path.")] = "",
    sampling_rate: Annotated[float, typer.Option(min=0, max=1, help="Probability of each unit in a round.")] = 1.0,
    noise_multiplier: Annotated[float | None, typer.Option(min=0, help="Noise over clip norm.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many.")] = None,
    delta: Annotated[float, typer.Option(min=0, max=1, help="Of (epsilon, delta).")] = 1e-5,
    target_epsilon: Annotated[float | None, typer.Option(min=0, help="Asks for the noise.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="A limit to epsilon: asks for the rounds.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Prints what a ledger has counted; without one it is a calculator."""
    with command(debug) as streams:
        found = (
            _statement(ledger)
            if ledger
            else _answer(sampling_rate, delta, noise_multiplier, rounds, target_epsilon, budget)
        )
        if as_json:
            streams.out.file.write(json.dumps(found.as_json()) + "\n")
            return
        for label, value in _described(found):
            streams.out.print(f"{label:24}{value}", highlight=False, markup=False, soft_wrap=True)


def _answer(sampling_rate: float, delta: float, *asked: Any) -> Answer:
    from federated.privacy.calculator import answer

    for name, value in (("--sampling-rate", sampling_rate), ("--delta", delta)):
        if value == 0:
            raise InputError(f"{name}: expected a number above 0, got {value:g}")
    return answer(sampling_rate, delta, *asked)


def _statement(ledger: str) -> Statement:
    from tasks.ledger import PrivacyLedger
    from tasks.signing import signer, trusted_keys

    path = environment.privacy_ledger(ledger)
    if not path.exists() and not (path := Path(ledger)).is_file():
        raise InputError(f"there is no privacy ledger {ledger} in {environment.privacy_ledger(ledger).parent}")
    return PrivacyLedger(path, None, signer(), trusted_keys()).statement()


def _described(found: Answer | Statement) -> Iterator[tuple[str, str]]:
    """An ε never stands without its unit, δ, neighbours and sampling."""
    from federated.privacy.calculator import Answer

    if isinstance(found, Answer):
        yield "epsilon", _epsilon(found.epsilon)
        yield "delta", f"{found.delta:g}"
        yield "noise multiplier", f"{found.noise_multiplier:g}"
        yield "sampling rate", f"{found.sampling_rate:g}, each unit by itself (Poisson)"
        yield "rounds", f"{found.rounds:,}"
        yield "neighbours differ in", "one unit, added or removed"
        return
    terms = found.terms
    yield "population", terms.population
    yield "epsilon", _epsilon(found.epsilon) + (f" of {terms.budget:g}" if terms.budget is not None else ", no budget")
    yield "delta", f"{terms.delta:g}"
    yield "neighbours differ in", f"one {terms.unit}, added or removed"
    for release, times in found.spent:
        said = ", ".join(f"{name} {value:g}" for name, value in release.model_dump(exclude={"kind"}).items())
        yield "spent", f"{times:,} × {said} (Poisson)"
    yield "trainings", f"{len(found.runs):,}"
    yield "entries", f"{found.entries:,}, the last is {found.head[:12]}"


def _epsilon(found: Epsilon) -> str:
    other = "" if found.pld is None or found.rdp is None else f" (by Rényi divergences {found.rdp:.4f})"
    return f"{found.best:.4f}{other}"
