"""How features are scaled before training; the served model repeats what all clients share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.component import ByKind, Component
from federated.data import Split
from federated.errors import PlanError


class Affine(NamedTuple):
    """x ↦ (x - ``mean``) / ``std``, each a number a feature: shape (*features,)."""

    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def apply(self, split: Split) -> Split:
        """The split with scaled features."""
        return Split((split.x - self.mean) / self.std, split.y)

    def invert(self, split: Split) -> Split:
        """The split with features as they came, up to rounding."""
        return Split(split.x * self.std + self.mean, split.y)


class Scaling(Component, ABC):
    """A way to find the numbers to scale by, from training rows only."""

    @abstractmethod
    def fit(self, clients: Sequence[Split]) -> Affine:
        """The numbers for all, found from what clients may reveal: counts and sums, no rows."""

    def fit_each(self, clients: Mapping[str, Split]) -> dict[str, Affine]:
        """The numbers that each client scales its own rows by; empty where all scale by those of ``fit``."""
        return {}

    @property
    def fitted(self) -> bool:
        """Whether numbers are found from rows at all."""
        return False

    @property
    def reveals(self) -> bool:
        """Whether numbers found from all clients' rows become part of the model."""
        return False

    @property
    def left_to_callers(self) -> Scaling:
        """What the served model does not repeat: its callers scale so before they send rows."""
        return AsIs()


def _fill(shape: tuple[int, ...], mean: float, std: float) -> Affine:
    return Affine(np.full(shape, mean, np.float32), np.full(shape, std, np.float32))


class AsIs(Scaling):
    """Features as they come."""

    kind: Literal["as_is"] = "as_is"

    def fit(self, clients: Sequence[Split]) -> Affine:
        return _fill(clients[0].x.shape[1:], 0.0, 1.0)


class Divide(Scaling):
    """Features divided by a known number, as 255 for bytes."""

    kind: Literal["divide"] = "divide"
    by: float = Field(gt=0)

    def fit(self, clients: Sequence[Split]) -> Affine:
        return _fill(clients[0].x.shape[1:], 0.0, self.by)


class Given(Scaling):
    """Features to about mean 0 and standard deviation 1, by numbers that are known before: a textbook's, or a pilot's.

    ``mean`` and ``std`` have one number a feature, in the order of the columns after encoding, or one for all.
    """

    kind: Literal["given"] = "given"
    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)

    def fit(self, clients: Sequence[Split]) -> Affine:
        """The numbers as they were given: no row is looked at.

        Raises:
            PlanError: there are more or fewer of them than features.
        """
        shape = clients[0].x.shape[1:]
        return Affine(_shaped("mean", self.mean, shape), _shaped("std", self.std, shape))


def _shaped(field: str, numbers: Sequence[float], shape: tuple[int, ...]) -> NDArray[np.float32]:
    count = math.prod(shape)
    if len(numbers) not in (1, count):
        raise PlanError(
            f"scaling.given.{field}: expected one number for each of the {count} features, in the order of the columns "
            f"after encoding, or one for all; got {len(numbers)}"
        )
    return np.broadcast_to(np.array(numbers, np.float32), count).reshape(shape).copy()


class Standardize(Scaling):
    """Features to mean 0 and standard deviation 1 over training rows, those of all clients or the client's own.

    ``ddof`` is what is taken from the number of rows when squared deviations are averaged. A constant feature is only
    centred, and so is that of a single row.

    | ``per`` | whose numbers | the served model |
    | --- | --- | --- |
    | ``all`` | those of the pooled rows, in two exchanges: counts and sums, then sums of squared deviations from the \
common mean | repeats them: callers send rows as they come |
    | ``client`` | each client's own, which stay with it. The server scales a row by its client's numbers; where the \
partition does not keep to the data's clients, by those of all | leaves it to callers, who scale by their own |
    """

    kind: Literal["standardize"] = "standardize"
    per: Literal["all", "client"] = "all"
    ddof: Literal[0, 1] = 0

    def fit(self, clients: Sequence[Split]) -> Affine:
        count = sum(len(split) for split in clients)
        mean = self._sum(clients, 0.0) / count
        variance = self._sum(clients, mean, power=2) / max(count - self.ddof, 1)
        std = np.sqrt(variance)
        std[std <= 1e-7 * np.abs(mean)] = 1.0
        return Affine(mean.astype(np.float32), std.astype(np.float32))

    def fit_each(self, clients: Mapping[str, Split]) -> dict[str, Affine]:
        return {name: self.fit([split]) for name, split in clients.items()} if self.per == "client" else {}

    @property
    def fitted(self) -> bool:
        return True

    @property
    def reveals(self) -> bool:
        return self.per == "all"

    @property
    def left_to_callers(self) -> Scaling:
        return self if self.per == "client" else AsIs()

    def _sum(self, clients: Sequence[Split], centre: Any, power: int = 1) -> NDArray[np.float64]:
        sums = [((split.x.astype(np.float64) - centre) ** power).sum(axis=0) for split in clients]
        return np.asarray(np.sum(sums, axis=0), dtype=np.float64)


AnyScaling = Annotated[AsIs | Divide | Given | Standardize, Field(discriminator="kind"), ByKind()]
