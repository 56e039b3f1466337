"""What every command has: its options, clean streams, one line for an error, and tables."""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from federated.errors import InputError, TrackingError, TrainingError
from roundhouse.streams import Streams, clean_streams

PlanArgument = Annotated[str, typer.Argument(metavar="PLAN", help="A shipped name, or a path.")]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="PATH=VALUE", help="Changes a field, e.g. rounds=5. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks and libraries' logs.")]

VersionArgument = Annotated[str, typer.Argument(metavar="VERSION", help="NAME, NAME/7 or NAME@champion.")]
WorkerOption = Annotated[bool, typer.Option("--on-worker", help="Where the data are: by the deployment, on a worker.")]
KeyOption = Annotated[str, typer.Option(metavar="KEY", help="The public key to trust, if not that of this home.")]

FAILED, BAD_INPUT, REFUSED, STOPPED = 1, 2, 3, 130
_WIDE = 120  # columns of a terminal that hold the widest table
_DIGEST_LENGTH = 64  # of a SHA-256 in full; a table shows its beginning
_UNBROKEN = ("plan", "model", "run_id", "uri")  # to copy from the table


@contextlib.contextmanager
def command(debug: bool, log: Callable[[], Path] | None = None) -> Iterator[Streams]:
    """Clean streams; and in place of a traceback one line, and the right exit code."""
    try:
        with clean_streams(None if log is None or debug else log(), debug) as streams:
            try:
                yield streams
            except (Exception, KeyboardInterrupt) as error:
                if isinstance(error, typer.Exit):
                    raise
                with contextlib.suppress(OSError):  # the disk of the log may be full
                    traceback.print_exception(error)  # to the log, or with --debug to the terminal
                raise typer.Exit(_report(error, streams.err, log if not debug else None)) from error
    except InputError as error:  # before there were streams
        raise typer.Exit(_report(error, Console(stderr=True), None)) from error


def _report(error: BaseException, console: Console, log: Callable[[], Path] | None) -> int:
    """Says what went wrong; gives the exit code."""
    if isinstance(error, KeyboardInterrupt):
        console.print("stopped")
        return STOPPED
    expected = isinstance(error, (InputError, TrainingError, TrackingError))
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    for line in message.splitlines() or [message]:
        console.print(f"[red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
    if not expected:
        where = f"{log()} has" if log is not None else "--debug shows"
        console.print(escape(f"{where} the traceback"), soft_wrap=True, highlight=False)
    return BAD_INPUT if isinstance(error, InputError) else FAILED


def note(console: Console, remarks: Iterable[str]) -> None:
    """What is legal, and may not be meant: a line each."""
    for remark in remarks:
        console.print(f"[yellow]note:[/] {escape(remark)}", soft_wrap=True, highlight=False)


def run_on_worker(streams: Streams, deployment: str, given: dict[str, Any], as_json: bool) -> str:
    """Runs a deployment, says how it goes and what came out; gives the name of the state in which it ended.

    Raises:
        TrainingError: it cannot be run, or did not complete.
    """
    from roundhouse.deployed import run_deployed

    ended = run_deployed(deployment, given, lambda text: streams.err.print(text, soft_wrap=True, highlight=False))
    if as_json:
        streams.out.file.write(json.dumps(ended._asdict()) + "\n")
    else:
        said = f": {ended.message}" if ended.message else ""
        streams.out.print(escape(ended.state.lower() + said), soft_wrap=True, highlight=False)
    return ended.state


def show(streams: Streams, rows: list[dict[str, Any]], as_json: bool, wide_only: Sequence[str] = ()) -> None:
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
