"""What a client does with the global model in a round."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from federated.component import Component
from federated.dp_sgd import DpSgd
from federated.local_optimizers import AnyLocalOptimizer, Sgd
from federated.privacy.releases import Release
from federated.schedules import AnySchedule, Constant
from federated.work import AnyWork, Asked, Same


class LocalTraining(Component):
    """``epochs`` passes over its rows in shuffled batches, or as many ``steps``, one a batch, where they are given.

    ``batch_size: null`` is one batch of all rows. The last batch of an epoch may be smaller. The optimizer starts
    afresh in every round; ``schedule`` changes its learning rate from round to round, and ``work`` lets clients do less
    than the others. ``clip_examples`` limits the L2 norm of every example's gradient before they are averaged;
    ``dp_sgd`` also noises their sum, and draws every batch by chance, of ``batch_size`` on average.
    """

    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1, description="in place of epochs")
    batch_size: int | None = Field(default=32, ge=1)
    optimizer: AnyLocalOptimizer = Sgd()
    schedule: AnySchedule = Constant()
    work: AnyWork = Same()
    clip_examples: float | None = Field(default=None, gt=0, description="largest L2 norm of an example's gradient")
    dp_sgd: DpSgd | None = None

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs != 1:
            raise ValueError(
                f"only one of epochs and steps may be set, got {self.epochs} and {self.steps}; "
                "with steps leave epochs 1"
            )
        return self

    @model_validator(mode="after")
    def _one_clip(self) -> Self:
        if self.dp_sgd is not None and self.clip_examples is not None:
            raise ValueError("dp_sgd has a norm of its own; leave clip_examples out")
        if self.dp_sgd is not None and (self.dp_sgd.most or math.inf) < (self.batch_size or 0):
            raise ValueError(f"dp_sgd.most must be at least batch_size, got {self.dp_sgd.most} and {self.batch_size}")
        return self

    def release(self, rows: int) -> Release:
        """What one step of ``dp_sgd`` costs a record of a client with so many rows.

        Raises:
            ValueError: there is none.
        """
        if self.dp_sgd is None:
            raise ValueError("without dp_sgd no step is private")
        return self.dp_sgd.release(self.batch(rows), rows)

    def batch(self, rows: int) -> int:
        """The size of a batch for a client with so many rows."""
        return min(self.batch_size or rows, rows)

    def epoch(self, rows: int) -> int:
        """Steps that pass over so many rows once."""
        return -(-rows // self.batch(rows))

    def asked(self, rows: int) -> int:
        """Steps of a client with so many rows that does all of its work."""
        return self.steps or self.epochs * self.epoch(rows)

    def done(self, client: str, rows: int, rng: np.random.Generator) -> int:
        """Steps that a client with so many rows does."""
        return self.work.steps(Asked(client=client, steps=self.asked(rows), epoch=self.epoch(rows)), rng)

    def distance(self, steps: int, factor: float) -> float:
        """The sum of the learning rates of so many steps; 0 for an optimizer of one's own, whose is not known."""
        return steps * factor * getattr(self.optimizer, "learning_rate", 0.0)

    def worth(self, steps: int, factor: float, proximal: float) -> float:
        """Steps of plain descent that so many steps are worth; for other optimizers than SGD, their number."""
        optimizer = self.optimizer
        return optimizer.local_steps(steps, factor, proximal) if isinstance(optimizer, Sgd) else float(steps)
