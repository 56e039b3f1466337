"""From scores of single examples to numbers about a model and about its clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from federated.component import Metrics, Vector
from federated.data import Client, Split, concatenate
from federated.engine import SMALLER_IS_BETTER, Engine, Scores


def means(scores: Scores) -> Metrics:
    """Each score averaged over the examples."""
    return {name: float(np.mean(values, dtype=np.float64)) for name, values in scores.items()}


def evaluate(engine: Engine, params: Vector, data: Split) -> Metrics:
    """The model on one set of rows; nothing where there are none."""
    return means(engine.score(params, data)) if len(data) else {}


class ByClient(Mapping[str, Metrics]):
    """Numbers of every client, kept by metric: ten thousand dictionaries a round would tear memory to pieces.

    ``columns`` has for each metric the numbers of all clients, shape (clients,), in the order of ``names``.
    """

    def __init__(self, names: Sequence[str], columns: Mapping[str, NDArray[np.float64]]) -> None:
        self.names, self.columns = names, columns
        self._places = {name: place for place, name in enumerate(names)}

    def __getitem__(self, client: str) -> Metrics:
        place = self._places[client]
        return {metric: float(values[place]) for metric, values in self.columns.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class ClientTests:
    """All clients' own test rows, laid end to end once, so that one call scores them all."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._names = [client.name for client in clients]
        self._rows = concatenate([client.test for client in clients])
        self._counts = np.array([len(client.test) for client in clients])
        self._starts = np.cumsum(self._counts) - self._counts

    def evaluate(self, engine: Engine, params: Vector) -> ByClient:
        """The model on each client's own test rows, by client."""
        scores = engine.score(params, self._rows)
        sums = {name: np.add.reduceat(values, self._starts, dtype=np.float64) for name, values in scores.items()}
        return ByClient(self._names, {name: total / self._counts for name, total in sums.items()})


def columns(by_client: Mapping[str, Metrics]) -> dict[str, NDArray[np.float64]]:
    """The numbers of all clients, by metric."""
    metrics = next(iter(by_client.values()))
    return {name: np.array([numbers[name] for numbers in by_client.values()]) for name in metrics}


def distribution(columns: Mapping[str, NDArray[np.float64]]) -> Metrics:
    """How clients fare: the worst, the 10th percentile and the median, for each metric.

    Percentiles count from the bad end: where smaller is better they are taken from above.
    """
    summary: Metrics = {}
    for name, values in columns.items():
        bad, tenth = (values.max(), 90) if SMALLER_IS_BETTER[name] else (values.min(), 10)
        summary[f"client_{name}_worst"] = float(bad)
        summary[f"client_{name}_p10"] = float(np.percentile(values, tenth))
        summary[f"client_{name}_median"] = float(np.median(values))
    return summary


def spread(columns: Mapping[str, NDArray[np.float64]]) -> tuple[float, ...]:
    """Percentiles 0, 10, 50, 90 and 100 over clients of the score beside the loss."""
    (values,) = [values for name, values in columns.items() if name != "loss"]
    return tuple(float(value) for value in np.percentile(values, (0, 10, 50, 90, 100)))
