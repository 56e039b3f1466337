"""Who holds which rows, counted; and how much the holders differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from configs.plan import Plan
from federated.data import Client
from federated.federation import Federation


class Holding(NamedTuple):
    """What one client holds, or all of them.

    ``classes`` has training rows by label; it is None for regression, where ``target_mean`` and ``target_sd`` are
    those of the training rows.
    """

    client: str
    train_rows: int
    test_rows: int
    classes: dict[str, int] | None
    target_mean: float | None
    target_sd: float | None


class Holdings(NamedTuple):
    """What every client holds, all together, and the server; and how much clients differ, see ``differences``."""

    plan: str
    clients: list[Holding]
    together: Holding
    validation_rows: int
    test_rows: int
    differences: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """For programs: every client."""
        return {
            **self._asdict(),
            "clients": [holding._asdict() for holding in self.clients],
            "together": self.together._asdict(),
        }


def holdings(plan: Plan, federation: Federation) -> Holdings:
    """Counts rows."""
    parties, labels = list(federation.clients.values()), federation.labels
    clients = [_holding(client.name, [client], labels) for client in parties]
    together = _holding("together", parties, labels)
    served = (len(federation.validation), len(federation.test))
    return Holdings(plan.name, clients, together, *served, differences(clients, together))


def _holding(name: str, parties: Sequence[Client], labels: Sequence[str] | None) -> Holding:
    targets = np.concatenate([client.train.y for client in parties])
    test_rows = sum(len(client.test) for client in parties)
    if labels is None:
        exact = targets.astype(np.float64)
        return Holding(name, len(targets), test_rows, None, float(exact.mean()), float(exact.std()))
    counts = np.bincount(targets, minlength=len(labels)).tolist()
    return Holding(name, len(targets), test_rows, dict(zip(labels, counts, strict=True)), None, None)


def differences(clients: Sequence[Holding], together: Holding) -> dict[str, float]:
    """How much the clients' training rows differ, in numbers.

    ``rows_…``: how many a client has. ``classes_…``: how many classes it holds a row of. ``label_distance``: the total
    variation ½ Σ |p(label | client) - p(label)|, averaged over clients; 0 where all have the same shares. For
    regression ``between_clients`` is the share of the target's variance that lies between clients' means (Fisher's
    correlation ratio, squared).
    """
    rows = np.array([holding.train_rows for holding in clients])
    found = _spread("rows", rows)
    if together.classes is None:
        means = np.array([holding.target_mean for holding in clients])
        variance = float(together.target_sd or 0.0) ** 2
        between = float(np.average((means - together.target_mean) ** 2, weights=rows))
        return found | {"between_clients": between / variance if variance else 0.0}
    counts = np.array([list((holding.classes or {}).values()) for holding in clients])
    pooled = counts.sum(axis=0) / counts.sum()
    distances = np.abs(counts / counts.sum(axis=1, keepdims=True) - pooled).sum(axis=1) / 2
    return found | _spread("classes", (counts > 0).sum(axis=1)) | {"label_distance": float(distances.mean())}


def _spread(name: str, values: Any) -> dict[str, float]:
    return {
        f"{name}_least": float(values.min()),
        f"{name}_median": float(np.median(values)),
        f"{name}_most": float(values.max()),
    }
