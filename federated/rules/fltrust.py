"""The robust rule that trusts updates as far as they go the server's own way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from federated.component import Step, Vector
from federated.rules.cohort import deltas, gathered
from federated.rules.columns import Doubles, combination, products, squared_distances
from federated.rules.rule import Rule
from federated.updates import Update, l2_norm


class FlTrust(Rule):
    """The mean of updates, brought to the root update's norm and weighted by their trust max(0, cos(xᵢ, root)).

    Cao et al. 2021, algorithm 2. The root update is what the server's own training on its root rows gave in this round:
    ``guided`` takes it down in the state. Weights count nothing. Guarantees: the result is no longer than the root
    update, and never against it, however many clients lie.

    ======================  ==========================
    updates                 result
    ======================  ==========================
    zero                    trusted with 0
    none is trusted         zero: the model stays
    root update is zero     zero: the model stays
    ======================  ==========================
    """

    kind: Literal["fltrust"] = "fltrust"

    @property
    def averages(self) -> bool:
        return False

    @property
    def robust(self) -> bool:
        return True

    @property
    def needs_root(self) -> bool:
        return True

    def guided(self, state: Any, root: Vector) -> Any:
        return root

    def next(self, state: Any, updates: Iterable[Update]) -> Step[Any, Vector]:
        rows = deltas(gathered(self, self.kind, updates))
        if state is None:
            raise ValueError("fltrust needs the server's own update of this round, got none: call guided before next")
        length, norms = l2_norm(state), np.sqrt(squared_distances(rows))
        trust = _trust(products(rows, state), norms, length)
        scales = np.divide(length * trust, norms, out=np.zeros_like(norms), where=norms > 0)
        coefficients = scales / trust.sum() if trust.any() else scales
        return Step(None, combination(rows, coefficients), {"trusted": float(np.sum(trust > 0))})


def _trust(along: Doubles, norms: Doubles, length: float) -> Doubles:
    """max(0, cosine) of each update with the root update; 0 where one of them is zero."""
    lengths = norms * length
    return np.clip(np.divide(along, lengths, out=np.zeros_like(norms), where=lengths > 0), 0.0, 1.0)
