"""The rule that listens most to the clients whom the model serves worst."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from pydantic import Field

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import Doubles, combination, squared_distances
from federated.rules.rule import Rule
from federated.updates import Update

_SMALLEST = 1e-10  # a loss of zero would have no power


class QFedAvg(Rule):
    """Σ Fᵢ^q δᵢ / Σ (Fᵢ^q + q Fᵢ^(q-1) L|δᵢ|²): clients count more the larger their loss.

    Li et al. 2020 (q-FFL), algorithm 2. Fᵢ is an update's ``loss``: that of the global model on the client's
    training rows, before it trains. ``q`` 0 is the mean; the larger, the more even the clients' losses become, and the
    shorter the steps. L = ``lipschitz`` bounds how fast gradients change. The paper takes 1 / the clients' learning
    rate; the rule does not know that one, so L must be given. Weights count nothing; losses below 1e-10 count as that.
    """

    kind: Literal["qfedavg"] = "qfedavg"
    q: float = Field(default=1.0, ge=0, description="0: the mean; larger: more even losses")
    lipschitz: float = Field(gt=0, description="L; the paper's is 1 / the clients' learning rate")

    @property
    def averages(self) -> bool:
        return False

    @property
    def needs_loss(self) -> bool:
        return True

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        held = gathered(self, self.kind, updates)
        losses, rows = np.maximum([_loss(update) for update in held], _SMALLEST), deltas(held)
        powers = (losses / losses.max()) ** self.q  # of a common scale, which cancels: no power overflows
        shares = self.q * self.lipschitz * squared_distances(rows) / losses
        return Step(state, combination(rows, _coefficients(powers, shares)), {"largest_loss": float(losses.max())})


def _coefficients(powers: Doubles, shares: Doubles) -> Doubles:
    return np.asarray(powers / np.sum(powers * (1 + shares)))


def _loss(update: Update) -> float:
    if update.loss is None or not update.loss >= 0:
        raise ValueError(
            f"qfedavg needs updates with a loss of at least 0, got {update.loss} from client {update.client}; "
            "take a loss that is never negative"
        )
    return update.loss
