"""The public fake: an engine in a page of NumPy, and small data to feed it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from federated.component import Vector
from federated.data import Client, Dataset, Split
from federated.division import Holdout
from federated.engine import AS_ASKED, Fitted, Scores, Terms
from federated.federation import Federation, federate
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.partitions import Iid
from federated.randomness import generator
from federated.scaling import AsIs
from federated.sources import Line
from federated.updates import Update


class FakeEngine:
    """Least squares by explicit stochastic gradient descent: an ``Engine`` that trains in microseconds.

    The model is y = w·x + b; its flat vector is (w…, b, moving statistics…), ``features`` numbers of w.
    The ``statistics`` trailing entries play batch normalisation's moving averages: every batch moves
    entry j a tenth of the way to (j + 1) × the batch's mean target; no gradient reaches them and no
    score reads them. The loss is the squared error, and ``train_loss`` its mean over the last epoch.
    It obeys ``epochs``, ``batch_size``, the learning rate of plain SGD and its terms, and refuses the rest.
    """

    def __init__(self, features: int = 1, statistics: int = 0) -> None:
        self._features, self._statistics = features, statistics

    @property
    def size(self) -> int:
        return self.trainable + self._statistics

    @property
    def compilation(self) -> str:
        return "none"

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def trainable(self) -> int:
        return self._features + 1

    @property
    def layers(self) -> tuple[int, ...]:
        return self._features, 1

    def init(self, seed: int) -> Vector:
        weights = generator(seed, 0, "fake-engine").normal(0, 0.1, self.trainable)
        return np.concatenate([weights, np.zeros(self._statistics)]).astype(np.float32)

    def fit(
        self, params: Vector, data: Split, work: LocalTraining, rng: np.random.Generator, terms: Terms = AS_ASKED
    ) -> Fitted:
        optimizer, rows = work.optimizer, len(data)
        if not isinstance(optimizer, Sgd) or optimizer != Sgd(learning_rate=optimizer.learning_rate):
            raise ValueError(f"FakeEngine knows plain SGD only, got {optimizer!r}")
        rate = np.float32(optimizer.learning_rate * terms.factor)
        trained, squares, epoch, batch = params.copy(), list[float](), work.epoch(rows), work.batch(rows)
        for step in range(terms.steps or work.asked(rows)):
            if step % epoch == 0:
                order = rng.permutation(rows)
            start = (step % epoch) * batch
            pull = self._pull(trained, params, terms)
            squares.append(self._step(trained, data.take(order[start : start + batch]), rate))
            trained[: self.trainable] -= rate * pull
        reported = rows if len(squares) >= epoch else len(squares) * batch
        return Fitted(trained, {"train_loss": sum(squares[-epoch:]) / reported})

    def fit_cohort(
        self,
        params: Vector,
        clients: Sequence[Client],
        work: LocalTraining,
        rngs: Sequence[np.random.Generator],
        terms: Sequence[Terms],
    ) -> Iterator[Fitted]:
        for client, rng, own in zip(clients, rngs, terms, strict=True):
            yield self.fit(params, client.train, work, rng, own)

    def score(self, params: Vector, data: Split) -> Scores:
        errors = self._errors(params, data)
        return {"loss": errors**2, "mae": np.abs(errors)}

    def _pull(self, trained: Vector, params: Vector, terms: Terms) -> Vector:
        pull = np.float32(terms.proximal) * (trained - params)[: self.trainable]
        return pull if terms.linear is None else pull + terms.linear

    def _errors(self, params: Vector, data: Split) -> NDArray[np.float32]:
        outputs = (_flat(data) * params[: self._features]).sum(axis=1) + params[self._features]
        return np.asarray(outputs - data.y, dtype=np.float32)

    def _step(self, params: Vector, batch: Split, rate: np.float32) -> float:
        """One batch, in place; the sum of its squared errors before the step."""
        errors = self._errors(params, batch)
        params[: self._features] -= rate * 2 * (_flat(batch) * errors[:, None]).mean(axis=0)
        params[self._features] -= rate * 2 * errors.mean()
        moving = params[self.trainable :]
        moving += np.float32(0.1) * (np.arange(1, len(moving) + 1) * batch.y.mean() - moving)
        return float(np.sum(errors**2))


def _flat(data: Split) -> NDArray[np.float32]:
    return data.x.reshape(len(data), -1)


def plain_sgd(learning_rate: float = 0.05, epochs: int = 1, batch_size: int | None = None) -> LocalTraining:
    """Local training that ``FakeEngine`` understands; one batch of all rows unless told."""
    return LocalTraining(epochs=epochs, batch_size=batch_size, optimizer=Sgd(learning_rate=learning_rate))


def line_split(rows: int, seed: int = 0, slope: float = 2.0, intercept: float = 1.0) -> Split:
    """Points of a noisy line, features of shape (rows, 1)."""
    source = Line(clients=1, points=rows, seed=seed, slope=slope, intercept=intercept, noise=0.1)
    return source.load().rows


def line_client(name: str, rows: int = 12, seed: int = 0, slope: float = 2.0) -> Client:
    """A client with ``rows`` training rows and 3 test rows of a noisy line."""
    split = line_split(rows + 3, seed, slope)
    return Client(name, split.take(np.arange(rows)), split.take(np.arange(rows, rows + 3)))


def line_federation(clients: int = 4, points: int = 40, seed: int = 0) -> Federation:
    """A noisy line, dealt out to ``clients`` at random, unscaled."""
    source = Line(clients=clients, points=points, seed=seed, noise=0.3)
    return federate(source.load(), Iid(clients=clients), Holdout(), AsIs(), seed)


def small_dataset(rows: int = 120, classes: int = 3, keys: int = 4) -> Dataset:
    """Rows that know their place: ``x[i] = i``, classes and natural clients by turns."""
    numbers = np.arange(rows)
    return Dataset(
        Split(numbers[:, None].astype(np.float32), (numbers % classes).astype(np.int32)),
        tuple(f"class-{label}" for label in range(classes)),
        "data.small",
        np.array([f"site-{number % keys}" for number in numbers // classes]),
    )


def update(client: str, delta: ArrayLike, weight: float = 1.0) -> Update:
    """An update without metrics."""
    return Update(client, np.asarray(delta, dtype=np.float32), weight)
