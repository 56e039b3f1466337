"""What a training leaves to read: the summary, in Prefect, in MLflow and for programs."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict

from configs.privacy import epsilon_said
from federated.component import Metrics, Vector
from federated.evaluation import evaluate
from federated.stopping import StopReason
from federated.updates import digest
from tasks.baselines import Baseline, by_client, overall
from tasks.training import RoundReport, Training

_TABLE_ROUNDS = 200


class Summary(BaseModel):
    """The outcome of a training. ``metrics`` are the final model's on the server's test rows, and the baselines'.

    ``privacy`` is the ε that the population has spent with this training, and what it means.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")  # a model that diverged is read back too

    run_id: str
    plan: str
    rounds: int
    stop_reason: StopReason
    privacy: str = ""
    metrics: Metrics
    per_client: dict[str, Metrics]
    model_name: str
    model_version: str
    weights_sha256: str
    seconds: float


def summarise(
    training: Training,
    *,
    params: Vector,
    reports: Sequence[RoundReport],
    baselines: dict[str, Baseline],
    run_id: str,
    version: str,
    stop_reason: StopReason,
    seconds: float,
) -> Summary:
    """The outcome, from the final model and what was recorded on the way."""
    last, federation = reports[-1], training.federation
    test = evaluate(training.engine, params, federation.test)
    test |= training.adversary.success(training.engine, params, federation.test)
    metrics = {f"test_{name}": value for name, value in test.items()}
    metrics |= {name: value for name, value in last.metrics.items() if name.startswith("client_")}
    per_client = {
        name: {
            "train_rows": float(len(client.train)),
            **{f"own_{score}": value for score, value in last.per_client[name].items()},
            **(by_client(baselines[name]) if name in baselines else {}),
        }
        for name, client in federation.clients.items()
    }
    return Summary(
        run_id=run_id,
        plan=training.plan.name,
        rounds=len(reports),
        stop_reason=stop_reason,
        privacy=epsilon_said(last.means, last.metrics["epsilon"]) if "epsilon" in last.metrics else "",
        metrics=metrics | (overall(baselines) if baselines else {}),
        per_client=per_client,
        model_name=training.plan.name,
        model_version=version,
        weights_sha256=digest(params),
        seconds=seconds,
    )


def publish_summary(summary: Summary, reports: Sequence[RoundReport]) -> None:
    """The summary as an artifact in the Prefect UI."""
    create_markdown_artifact(
        key=f"{summary.plan}-summary",
        markdown=markdown(summary, reports),
        description=f"{summary.plan}: {summary.rounds} rounds",
    )


def markdown(summary: Summary, reports: Sequence[RoundReport]) -> str:
    """The summary and a table of rounds (the last 200 of them)."""
    facts = {
        "rounds": f"{summary.rounds}, ended by {summary.stop_reason}",
        "model": f"{summary.model_name} version {summary.model_version}",
        "MLflow run": summary.run_id,
        "weights": f"`{summary.weights_sha256}`",
        "seconds": f"{summary.seconds:.1f}",
        **({"privacy": summary.privacy} if summary.privacy else {}),
        **{name.replace("_", " "): f"{value:.4f}" for name, value in summary.metrics.items()},
    }
    columns = _columns(reports)
    rows = [
        [
            str(report.round),
            str(len(report.cohort)),
            *_cells(report, columns),
            ", ".join(report.left_out),
        ]
        for report in reports[-_TABLE_ROUNDS:]
    ]
    heading = ["round", "cohort", *columns, "seconds", "left out"]
    return "\n\n".join(
        [
            f"# {summary.plan}",
            table(["", ""], [[name, text] for name, text in facts.items()]),
            "## Rounds",
            table(heading, rows),
        ]
    )


def _columns(reports: Sequence[RoundReport]) -> list[str]:
    wanted = ("loss", "accuracy", "mae", "train_loss", "client_accuracy_worst", "client_mae_worst", "epsilon")
    return [name for name in wanted if any(name in report.metrics for report in reports)]


def _cells(report: RoundReport, columns: Sequence[str]) -> list[str]:
    found = (report.metrics.get(name) for name in columns)
    return ["" if value is None else f"{value:.4f}" for value in found] + [f"{report.seconds:.2f}"]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """A client's name may hold what would end the cell."""
    return " ".join(text.split()).replace("|", r"\|")
