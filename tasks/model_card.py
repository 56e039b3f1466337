"""The model card of a training's last version (Mitchell et al. 2019), from what is known and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from federated.component import Metrics, Vector
from federated.federation import Federation
from federated.scaling import AsIs
from tasks.summary import Summary, table
from tasks.training import RoundReport, Training

_MOST_CLIENTS = 50
_DESCRIPTION = 3500  # MLflow holds 5,000


def model_card(training: Training, params: Vector, reports: Sequence[RoundReport], summary: Summary) -> str:
    """The card, as Markdown."""
    sections = {
        "Data": _data(training),
        "Quality": _quality(summary),
        "By class": _classes(training, params),
        "Privacy": _privacy(training, summary),
        "Limits": _limits(training),
        "Training": _training(training, summary, reports),
        "Clients": _clients(training.federation, summary),
    }
    title = f"# {summary.model_name} version {summary.model_version}"
    text = "\n\n".join(f"## {heading}\n\n{''.join(body)}" for heading, body in sections.items() if body)
    return "\n\n".join(part for part in (title, training.plan.description, text) if part)


def shortened(card: str) -> str:
    """As much of the card as a version's description holds, beside the verdicts of a promotion."""
    if len(card) <= _DESCRIPTION:
        return card
    return card[:_DESCRIPTION].rpartition("\n")[0] + "\n\nThe rest is in model-card.md of the MLflow run."


def _data(training: Training) -> list[str]:
    parties = training.federation
    total = sum(len(client.train) for client in parties.clients.values())
    return [
        f"Source `{training.plan.data.kind}`: {len(parties.clients)} clients with {total:,} training rows; "
        f"{_held_out(training)}."
    ]


def _held_out(training: Training) -> str:
    parties, holdout = training.federation, training.plan.holdout
    if holdout.test == holdout.client_test == "given":
        steering = f"; {len(parties.validation):,} for validation are no client's" if len(parties.validation) else ""
        return f"{len(parties.test):,} rows for testing are the clients' own{steering}"
    return f"{len(parties.test):,} rows for testing and {len(parties.validation):,} for validation are no client's"


def _training(training: Training, summary: Summary, reports: Sequence[RoundReport]) -> list[str]:
    algorithm = training.plan.algorithm
    transforms = ", ".join(layer.kind for layer in algorithm.transforms) or "none"
    facts = {
        "model": f"{training.plan.model.kind}, {training.engine.size:,} parameters",
        "rounds": f"{summary.rounds}, ended by {summary.stop_reason}",
        "clients a round": f"{len(reports[-1].cohort)} ({algorithm.select.kind})",
        "local training": f"{algorithm.local.epochs} epochs of {algorithm.local.optimizer.kind}",
        "transforms": transforms,
        "aggregation": algorithm.rule.kind,
        "weights": f"sha256 `{summary.weights_sha256}`",
        "MLflow run": summary.run_id,
    }
    return [table(["", ""], [[name, text] for name, text in facts.items()])]


def _quality(summary: Summary) -> list[str]:
    rows = [[name.replace("_", " "), f"{value:.4f}"] for name, value in summary.metrics.items()]
    return [table(["", ""], rows)]


def _classes(training: Training, params: Vector) -> list[str]:
    """Each class by itself, on the server's test rows."""
    labels, test = training.federation.labels, training.federation.test
    if labels is None:
        return []
    right = training.engine.score(params, test)["accuracy"]
    of_class = [test.y == number for number in range(len(labels))]
    rows = [
        [label, str(int(rows.sum())), f"{right[rows].mean():.4f}" if rows.any() else "no rows"]
        for label, rows in zip(labels, of_class, strict=True)
    ]
    return [table(["class", "test rows", "recognised"], rows)]


def _privacy(training: Training, summary: Summary) -> list[str]:
    rows = "Clients' rows stay with the clients: the server sees one update a client and round, and counts."
    noise = " There is no differential privacy: an update, and the model, may reveal something of the rows behind it."
    if summary.privacy and training.plan.simulation:
        noise += f" Noise was simulated, and counted as if it were secret: {summary.privacy}."
    elif summary.privacy:
        noise = f" The weights are differentially private: {summary.privacy}. Scores, cohorts and pictures are not."
    return [rows + noise]


def _limits(training: Training) -> list[str]:
    smallest = min(len(client.test) for client in training.federation.clients.values())
    left = training.plan.scaling.left_to_callers
    scaled = "" if isinstance(left, AsIs) else "\n- Takes rows that callers have scaled by their own numbers."
    return [
        "- Measured on rows of the same sources as the training rows; other parties may fare otherwise.\n"
        f"- The smallest client has {smallest} test rows: its own score is a rough one.\n"
        "- Accepts rows of the shape and meaning that its signature and its source say, and no others." + scaled
    ]


def _clients(parties: Federation, summary: Summary) -> list[str]:
    shown = list(summary.per_client.items())[:_MOST_CLIENTS]
    rows = [[name, f"{numbers['train_rows']:.0f}", _score(parties, numbers)] for name, numbers in shown]
    more = len(summary.per_client) - len(shown)
    rest = f"\n\nand {more} more, in summary.json of the MLflow run" if more else ""
    return [table(["client", "training rows", f"{_score_name(parties)} on its own test rows"], rows) + rest]


def _score_name(parties: Federation) -> str:
    return "mae" if parties.labels is None else "accuracy"


def _score(parties: Federation, numbers: Metrics) -> str:
    return f"{numbers[f'own_{_score_name(parties)}']:.4f}"
