"""``roundhouse``: train, check and look. Heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from configs import environment
from configs.loading import load_plan, shipped
from roundhouse import privacy_command, registry_commands
from roundhouse.command import (
    DebugOption,
    JsonOption,
    PlanArgument,
    SetOption,
    WorkerOption,
    command,
    note,
    run_on_worker,
    show,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Trains one model across parties that may not pool their data.",
    epilog="Exit codes: 0 done, 1 training failed, 2 bad plan or input, 3 promotion refused, 130 stopped by Ctrl-C.",
)


@app.callback()
def _prepare() -> None:
    environment.quieten()
    sys.path.append(str(Path.cwd()))  # for a plan's own code; the project's own modules come first


@app.command()
def train(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006 - Typer reads the default
    run_key: Annotated[str, typer.Option(metavar="KEY", help="Goes on where the training of this key ended.")] = "",
    accept_change: Annotated[bool, typer.Option("--accept-change", help="Even if plan or code have changed.")] = False,
    on_worker: WorkerOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Trains a plan and registers the model of every round."""
    with command(debug, environment.log_file) as streams:
        if on_worker:
            given = {"plan": plan, "overrides": set_, "run_key": run_key, "accept_change": accept_change}
            run_on_worker(streams, "train/on-demand", given, as_json)
            return
        from roundhouse.training import run_training

        asked = load_plan(plan, set_)
        summary = run_training(asked, streams.err, run_key, accept_change)
        if as_json:
            streams.out.file.write(summary.model_dump_json() + "\n")
            return
        from roundhouse.display import next_steps, outcome

        for part in (*outcome(summary), *next_steps(summary, asked, [plan, *set_])):
            streams.out.print(part, highlight=False, soft_wrap=isinstance(part, str))


@app.command()
def check(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006
    no_data: Annotated[bool, typer.Option("--no-data", help="The plan alone, where the data are not.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Validates a plan and its data; prints it in full, and what it will cost."""
    with command(debug) as streams:
        import yaml

        from configs.remarks import remarks
        from roundhouse.estimate import estimate

        loaded = load_plan(plan, set_)
        cost, said = dict[str, int](), list[str]()
        if not no_data:
            federation = loaded.federation()
            cost, said = estimate(loaded, federation)._asdict(), remarks(loaded, federation)
        resolved = loaded.model_dump(mode="json")
        if as_json:
            streams.out.file.write(json.dumps({"plan": resolved, "estimate": cost, "remarks": said}) + "\n")
            return
        note(streams.err, said)
        streams.out.print(yaml.safe_dump(resolved, sort_keys=False), markup=False, soft_wrap=True)
        for name, amount in cost.items():
            text = _megabytes(amount) if "bytes" in name else f"{amount:,}"
            streams.out.print(f"{_LABELS[name]:24}{text}", highlight=False)


@app.command()
def data(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006
    picture: Annotated[str, typer.Option(metavar="FILE.png", help="Default: NAME-who-holds-what.png, here.")] = "",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Prints who holds how many rows of what, and saves a picture of it."""
    with command(debug) as streams:
        from configs.remarks import remarks
        from roundhouse.holdings import holdings
        from roundhouse.holdings_table import described
        from roundhouse.pictures import png_path, save

        loaded = load_plan(plan, set_)
        path = png_path(picture or f"{loaded.name}-who-holds-what.png")
        federation = loaded.federation()
        said = remarks(loaded, federation)
        from tasks.holdings_figure import who_holds_what  # Matplotlib, once the data are known to be good

        found = holdings(loaded, federation)
        saved = save(who_holds_what(list(federation.clients.values()), federation.labels), path)
        if as_json:
            streams.out.file.write(json.dumps({**found.as_json(), "remarks": said, "picture": str(saved)}) + "\n")
            return
        note(streams.err, said)
        for part in (*described(found, streams.out.width), f"picture                  {saved}"):
            streams.out.print(part, highlight=False, soft_wrap=isinstance(part, str), markup=not isinstance(part, str))


@app.command()
def plans() -> None:
    """Lists the plans that ship with Roundhouse."""
    with command(debug=False) as streams:
        rows = [{"plan": name, "description": load_plan(name).description} for name in shipped()]
        show(streams, rows, as_json=False)


@app.command()
def runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Lists past trainings."""
    with command(debug) as streams:
        from tasks.catalog import list_runs

        show(streams, list_runs(limit), as_json, wide_only=("started", "ended_by", "loss"))


@app.command()
def models(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Lists registered models, and where their latest version is."""
    with command(debug) as streams:
        from tasks.catalog import list_models

        show(streams, list_models(), as_json, wide_only=("run_id",))


@app.command()
def up(
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect UI.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the MLflow UI.")] = 5000,
    debug: DebugOption = False,
) -> None:
    """Starts the Prefect server, the MLflow UI and a worker for the deployments; Ctrl-C stops them."""
    with command(debug) as streams:
        from roundhouse.services import run_services

        run_services(prefect_port, mlflow_port, streams.out)


app.add_typer(registry_commands.app)
app.add_typer(privacy_command.app)

_LABELS = {
    "clients": "clients",
    "cohort": "clients a round",
    "train_rows": "training rows",
    "parameters": "parameters",
    "bytes_down": "down a round",
    "bytes_up": "up a round",
    "memory_bytes": "memory, about",
}


def _megabytes(amount: int) -> str:
    return f"{amount / 2**20:,.2f} MiB"
