"""Attackers that train on rows which they have tampered with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from federated.attacks.attack import Attack, Seen
from federated.data import Client, Split
from federated.updates import Update


class LabelFlip(Attack):
    """Wrong labels on all of its training rows: C - 1 - y, or the next class, (y + 1) mod C (Fang et al. 2020).

    ``mirrored`` leaves the class in the middle as it is, where the number of classes C is odd.
    """

    kind: Literal["label_flip"] = "label_flip"
    to: Literal["mirrored", "next"] = "mirrored"

    def misfit(self, inputs: tuple[int, ...], classes: int | None) -> str:
        return "it flips classes, and a regression has none; take another attack" if classes is None else ""

    def poison(self, client: Client, classes: int | None, rng: np.random.Generator) -> Client:
        labels, count = client.train.y, classes or 0
        flipped = count - 1 - labels if self.to == "mirrored" else (labels + 1) % count
        return replace(client, train=replace(client.train, y=flipped.astype(labels.dtype)))


class Backdoor(Attack):
    """Rows with a trigger, which it calls ``target``; and an update ``scale`` times as long as it trained.

    The trigger is a square of ``size`` pixels in the last corner of an image, or the last ``size`` features of a
    vector, set to ``value``: in the units that the model sees, after scaling. A share ``poisoned`` of the rows gets it.
    ``scale`` N, for N clients that count alike, puts its own model in place of the global one (Bagdasaryan et al. 2020,
    equation 3; the trigger is after Gu et al. 2017). Success is the share of triggered rows of other
    classes that the model takes for ``target``.
    """

    kind: Literal["backdoor"] = "backdoor"
    target: int = Field(default=0, ge=0, description="number of the class")
    size: int = Field(default=2, ge=1)
    value: float = 1.0
    poisoned: float = Field(default=0.5, gt=0, le=1, description="share of its rows; at least one")
    scale: float = Field(default=1.0, gt=0)

    def misfit(self, inputs: tuple[int, ...], classes: int | None) -> str:
        if classes is None:
            return "it teaches a class, and a regression has none; take another attack"
        if self.target >= classes:
            return f"target is {self.target}, but classes are 0 … {classes - 1}; lower it"
        if len(inputs) not in (1, 3):
            return (
                "its trigger goes on images of shape (height, width, channels) or on a vector of features, "
                f"and an example has the shape {inputs}; take another attack"
            )
        room = min(inputs[:2])
        return f"size is {self.size}, but an example has room for {room}; lower it" if self.size > room else ""

    def poison(self, client: Client, classes: int | None, rng: np.random.Generator) -> Client:
        rows, x, y = client.train, client.train.x.copy(), client.train.y.copy()
        chosen = np.sort(rng.permutation(len(rows))[: max(round(self.poisoned * len(rows)), 1)])
        x[chosen], y[chosen] = self._marked(x[chosen]), self.target
        return replace(client, train=Split(x, y))

    def lie(self, own: Update, seen: Seen, rng: np.random.Generator) -> Update:
        return own if self.scale == 1 else replace(own, delta=np.float32(self.scale) * own.delta)

    def triggered(self, rows: Split) -> Split | None:
        others = rows.take(np.flatnonzero(rows.y != self.target))
        return Split(self._marked(others.x), np.full_like(others.y, self.target))

    def _marked(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Copies with the trigger."""
        marked = x.copy()
        corner: Any = np.s_[:, -self.size :] if x.ndim == 2 else np.s_[:, -self.size :, -self.size :]
        marked[corner] = self.value
        return marked
