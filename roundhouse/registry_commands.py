"""Commands on registered models: promote, roll back, verify, replay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from configs import environment
from configs.loading import load_plan
from roundhouse.command import (
    FAILED,
    REFUSED,
    DebugOption,
    JsonOption,
    KeyOption,
    PlanArgument,
    SetOption,
    VersionArgument,
    WorkerOption,
    command,
    run_on_worker,
    show,
)

if TYPE_CHECKING:
    from roundhouse.streams import Streams
    from tasks.promoting import Promoted

app = typer.Typer()


@app.command()
def promote(
    plan: PlanArgument,
    set_: SetOption = [],  # noqa: B006
    version: Annotated[str, typer.Option(metavar="N", help="A version, if not the candidate.")] = "",
    run_key: Annotated[str, typer.Option(metavar="KEY", help="The last version of the training of this key.")] = "",
    approved: Annotated[bool, typer.Option("--approve", help="A person has approved.")] = False,
    on_worker: WorkerOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Makes the candidate the champion, where the plan's gates let it. Exit code 3 where they do not."""
    with command(debug, environment.log_file) as streams:
        if on_worker:
            from flows.promote import REFUSED as REFUSED_STATE

            given = {"plan": plan, "overrides": set_, "version": version, "run_key": run_key, "approved": approved}
            if run_on_worker(streams, "promote/on-demand", given, as_json) == REFUSED_STATE:
                raise typer.Exit(REFUSED)
            return
        from roundhouse.training import run_promotion

        outcome = run_promotion(load_plan(plan, set_), version, run_key, approved)
        _show_promotion(streams, outcome, as_json)
        if outcome.promoted and not outcome.verdicts and not as_json:
            from flows.promote import NO_GATES

            streams.out.print(NO_GATES, highlight=False)
        if not outcome.promoted:
            raise typer.Exit(REFUSED)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A registered model.")],
    force: Annotated[bool, typer.Option("--force", help="Also to a version that does not verify.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Makes the previous champion the champion again."""
    with command(debug, environment.log_file) as streams:
        from roundhouse.training import run_rollback

        _show_promotion(streams, run_rollback(name, force), as_json)


@app.command()
def verify(
    version: VersionArgument, key: KeyOption = "", as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Checks that a version is what its training registered. Exit code 1 where it is not."""
    with command(debug) as streams:
        from tasks.signing import trusted_keys
        from tasks.verifying import verify as verified

        found = verified(version, trusted_keys(key))
        if as_json:
            streams.out.file.write(json.dumps(found._asdict()) + "\n")
        elif not found.faults:
            removed = "; retention has removed its weights" if found.removed else ""
            verified_what = f"files, tags and {found.rounds} rounds verified{removed}"
            streams.out.print(f"{found.name} version {found.version}: {verified_what}", highlight=False)
        for fault in found.faults if not as_json else ():
            streams.err.print(f"[red]fault:[/] {escape(fault)}", soft_wrap=True, highlight=False)
        if found.faults:
            raise typer.Exit(FAILED)


@app.command()
def replay(
    version: VersionArgument, key: KeyOption = "", as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Computes a version again from its parent. Exit code 1 where it comes out differently."""
    with command(debug) as streams:
        from tasks.replaying import replay as replayed
        from tasks.signing import trusted_keys

        found = replayed(version, trusted_keys(key))
        if as_json:
            streams.out.file.write(json.dumps(found._asdict() | {"agrees": found.agrees}) + "\n")
        else:
            for text in found.lines():
                streams.out.print(text, highlight=False, soft_wrap=True)
        if not found.agrees:
            raise typer.Exit(FAILED)


@app.command()
def serve_check(version: VersionArgument, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Loads a version as a service would, and scores its input example."""
    with command(debug) as streams:
        from tasks.serving import serve_check as served

        found = served(version)
        if as_json:
            streams.out.file.write(json.dumps(found._asdict()) + "\n")
            return
        shape = " x ".join(map(str, found.shape))
        streams.out.print(
            f"{found.name} version {found.version}: loads in {found.load_seconds:.1f} s, "
            f"predicts {shape} numbers in {1e3 * found.predict_seconds:.0f} ms",
            highlight=False,
        )


def _show_promotion(streams: Streams, outcome: Promoted, as_json: bool) -> None:
    if as_json:
        streams.out.file.write(outcome.model_dump_json() + "\n")
        return
    if outcome.verdicts:
        show(
            streams, [verdict | {"passed": "yes" if verdict["passed"] else "NO"} for verdict in outcome.verdicts], False
        )
    for reason in outcome.reasons:
        streams.out.print(f"refused: {escape(reason)}", highlight=False, soft_wrap=True)
    champion, previous = outcome.champion or "none", outcome.previous or "none"
    streams.out.print(f"{outcome.model_name}: champion {champion}, previous {previous}", highlight=False)
