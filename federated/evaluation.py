"""From scores of single examples to numbers about a model and about its clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from federated.component import Metrics, Vector
from federated.data import Client, Split, concatenate
from federated.engine import SMALLER_IS_BETTER, Engine, Scores


def means(scores: Scores) -> Metrics:
    """Each score averaged over the examples."""
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in scores.items()}


def evaluate(engine: Engine, params: Vector, data: Split) -> Metrics:
    """The model on one set of rows."""
    return means(engine.score(params, data))


class ClientTests:
    """All clients' own test rows, laid end to end once, so that one call scores them all."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._names = [client.name for client in clients]
        self._rows = concatenate([client.test for client in clients])
        self._cuts = np.cumsum([len(client.test) for client in clients])[:-1]

    def evaluate(self, engine: Engine, params: Vector) -> dict[str, Metrics]:
        """The model on each client's own test rows, by client."""
        scores = engine.score(params, self._rows)
        parts = {name: np.split(values, self._cuts) for name, values in scores.items()}
        return {
            client: means({name: pieces[index] for name, pieces in parts.items()})
            for index, client in enumerate(self._names)
        }


def distribution(by_client: Mapping[str, Metrics]) -> Metrics:
    """How clients fare: the worst, the 10th percentile and the median, for each metric.

    Percentiles count from the bad end: where smaller is better they are taken from above.
    """
    summary: Metrics = {}
    for name in next(iter(by_client.values())):
        values = np.array([metrics[name] for metrics in by_client.values()])
        bad, tenth = (values.max(), 90) if SMALLER_IS_BETTER[name] else (values.min(), 10)
        summary[f"client_{name}_worst"] = float(bad)
        summary[f"client_{name}_p10"] = float(np.percentile(values, tenth))
        summary[f"client_{name}_median"] = float(np.median(values))
    return summary


def spread(by_client: Mapping[str, Metrics]) -> tuple[float, ...]:
    """Percentiles 0, 10, 50, 90 and 100 over clients of the score beside the loss."""
    values = [value for metrics in by_client.values() for name, value in metrics.items() if name != "loss"]
    return tuple(float(value) for value in np.percentile(values, (0, 10, 50, 90, 100)))
