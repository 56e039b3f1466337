"""``roundhouse``: train, check and look. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs import environment
from configs.loading import load_plan, shipped
from federated.errors import InputError, TrackingError, TrainingError
from roundhouse.streams import Streams, clean_streams

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains one model across parties that may not pool their data.",
    epilog="Exit codes: 0 done, 1 training failed, 2 bad plan or input, 130 stopped by Ctrl-C.",
)

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="A shipped name, or a path.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Changes a field, e.g. rounds=5. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and libraries' logs.")]

_FAILED, _BAD_INPUT, _STOPPED = 1, 2, 130
_WIDE = 120  # columns of a terminal that hold the widest table
_DIGEST_LENGTH = 64  # of a SHA-256 in full; a table shows its beginning
_UNBROKEN = ("plan", "model", "run_id", "uri")  # to copy from the table


@app.callback()
def _prepare() -> None:
    environment.quieten()
    sys.path.append(str(Path.cwd()))  # for a plan's own code; the project's own modules come first


@app.command()
def train(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006 - Typer reads the default
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Trains a plan and registers the model of every round."""
    with _command(debug, environment.log_file) as streams:
        from roundhouse.training import run_training

        summary = run_training(load_plan(plan, set_), streams.err)
        if as_json:
            streams.out.file.write(summary.model_dump_json() + "\n")
            return
        from roundhouse.display import next_steps, outcome

        for part in (*outcome(summary), *next_steps(summary)):
            streams.out.print(part, highlight=False, soft_wrap=isinstance(part, str))


@app.command()
def check(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Validates a plan and its data; prints it in full, and what it will cost."""
    with _command(debug) as streams:
        import yaml

        from roundhouse.estimate import estimate

        loaded = load_plan(plan, set_)
        cost = estimate(loaded, loaded.federation())._asdict()
        resolved = loaded.model_dump(mode="json")
        if as_json:
            streams.out.file.write(json.dumps({"plan": resolved, "estimate": cost}) + "\n")
            return
        streams.out.print(yaml.safe_dump(resolved, sort_keys=False), markup=False, soft_wrap=True)
        for name, amount in cost.items():
            text = _megabytes(amount) if "bytes" in name else f"{amount:,}"
            streams.out.print(f"{_LABELS[name]:24}{text}", highlight=False)


@app.command()
def plans() -> None:
    """Lists the plans that ship with Roundhouse."""
    rows = [{"plan": name, "description": load_plan(name).description} for name in shipped()]
    with _command(debug=False) as streams:
        _show(streams, rows, as_json=False)


@app.command()
def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Lists past trainings."""
    with _command(debug) as streams:
        from tasks.catalog import list_runs

        _show(streams, list_runs(limit), as_json, wide_only=("started", "ended_by", "loss"))


@app.command()
def models(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Lists registered models, and where their latest version is."""
    with _command(debug) as streams:
        from tasks.catalog import list_models

        _show(streams, list_models(), as_json, wide_only=("run_id",))


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
    debug: DebugOption = False,
) -> None:
    """Starts the Prefect server, the MLflow UI and a worker for the deployments; Ctrl-C stops them."""
    with _command(debug) as streams:
        from roundhouse.services import run_services

        run_services(prefect_port, mlflow_port, streams.out)


_LABELS = {
    "clients": "clients",
    "cohort": "clients a round",
    "train_rows": "training rows",
    "parameters": "parameters",
    "bytes_down": "down a round",
    "bytes_up": "up a round",
    "memory_bytes": "memory, about",
}


@contextlib.contextmanager
def _command(debug: bool, log: Callable[[], Path] | None = None) -> Iterator[Streams]:
    """Clean streams; and in place of a traceback one line, and the right exit code."""
    try:
        with clean_streams(None if log is None or debug else log(), debug) as streams:
            try:
                yield streams
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, typer.Exit):
                    raise
                traceback.print_exception(error)  # to the log, or with --debug to the terminal
                raise typer.Exit(_report(error, streams.err, log if not debug else None)) from error
    except InputError as error:  # before there were streams
        raise typer.Exit(_report(error, Console(stderr=True), None)) from error


def _report(error: BaseException, console: Console, log: Callable[[], Path] | None) -> int:
    """Says what went wrong; gives the exit code."""
    if isinstance(error, KeyboardInterrupt):
        console.print("stopped")
        return _STOPPED
    expected = isinstance(error, (InputError, TrainingError, TrackingError))
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    for line in message.splitlines() or [message]:
        console.print(f"[red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
    if not expected:
        where = f"{log()} has" if log is not None else "--debug shows"
        console.print(escape(f"{where} the traceback"), soft_wrap=True, highlight=False)
    return _BAD_INPUT if isinstance(error, InputError) else _FAILED


def _show(streams: Streams, rows: list[dict[str, Any]], as_json: bool, wide_only: Sequence[str] = ()) -> None:
    """A table, without the columns ``wide_only`` on a narrow terminal; or all of it as JSON."""
    if as_json:
        streams.out.file.write(json.dumps(rows) + "\n")
        return
    if not rows:
        streams.out.print("nothing yet; try: roundhouse train quickstart")
        return
    table = Table(box=None, pad_edge=False)
    shown = [name for name in rows[0] if streams.out.width >= _WIDE or name not in wide_only]
    for heading in shown:
        table.add_column(heading.replace("_", " "), no_wrap=heading in _UNBROKEN)
    for row in rows:
        table.add_row(*(escape(_cell(row[name])) for name in shown))
    streams.out.print(table, highlight=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and len(value) == _DIGEST_LENGTH:
        return value[:12]
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _megabytes(amount: int) -> str:
    return f"{amount / 2**20:,.2f} MiB"
