"""An algorithm: independent choices (rule, server optimizer, transforms, correction) around local training."""

from __future__ import annotations

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from federated.component import Component
from federated.corrections import AnyCorrection, NoCorrection
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.privacy.releases import Release, Unit
from federated.rules import AnyRule, WeightedMean
from federated.selectors import All, AnySelector
from federated.server_optimizers import AnyServerOptimizer, ServerSgd
from federated.transforms import AnyTransform, Hides, NoisedBy, Sized, Transform


class Algorithm(Component):
    """Everything that decides the numbers of a training, given the data and the model."""

    seed: int = Field(default=0, ge=0)
    select: AnySelector = All()
    local: LocalTraining = LocalTraining()
    correction: AnyCorrection = NoCorrection()
    transforms: tuple[AnyTransform, ...] = ()
    rule: AnyRule = WeightedMean()
    server: AnyServerOptimizer = ServerSgd()

    @property
    def remembers(self) -> bool:
        """Whether clients keep something from round to round."""
        return self.memories > 0

    @property
    def memories(self) -> int:
        """How many vectors a client keeps from round to round."""
        return (self.correction.fresh(0) is not None) + sum(layer.feeds_back for layer in self.transforms)

    @property
    def release(self) -> Release | None:
        """What a round costs every client of a privacy budget, or a training that is ``sized``; None without noise."""
        return next((found for layer in self.transforms if (found := self._release(layer)) is not None), None)

    @property
    def unit(self) -> Unit | None:
        """Whose privacy is counted; None where nothing adds noise."""
        if self.local.dp_sgd is not None:
            return "record"
        return None if self.release is None else "client"

    @property
    def secret(self) -> bool:
        """Whether a round draws what nobody can draw again."""
        dp_sgd = self.local.dp_sgd
        return any(layer.secret for layer in self.transforms) or (dp_sgd is not None and not dp_sgd.seeded)

    @property
    def noised_by(self) -> NoisedBy:
        """Who adds noise."""
        return next((layer.noised_by for layer in self.transforms if layer.noised_by != "nobody"), "nobody")

    @property
    def hides(self) -> Hides:
        """What its noise hides, where there is any."""
        if self.local.dp_sgd is not None:
            return "message"
        return next((layer.hides for layer in self.transforms if layer.noised_by != "nobody"), "sum")

    @property
    def sized(self) -> Sized | None:
        """The trainings that its noise is for, where that of all rounds is one release; None: each round is one."""
        return next((layer.sized for layer in self.transforms if layer.sized is not None), None)

    @property
    def hides_rows(self) -> bool:
        """Whether its noise hides how many rows clients hold."""
        return self.noised_by == "clients" or self.sized is not None

    @property
    def sampling_rate(self) -> float:
        """The probability of each client that privacy is counted with: 1 where it is known who takes part."""
        return 1.0 if self.hides_rows else self.select.sampling_rate or 1.0

    @property
    def survivors(self) -> int:
        """The fewest updates that together carry the noise that is claimed."""
        return max((layer.survivors for layer in self.transforms), default=0)

    @property
    def messages_repeat(self) -> bool:
        """Whether clients send the same once more in a round that is computed again."""
        return not self.secret or self.noised_by == "server"

    @property
    def keeps_aggregate(self) -> bool:
        """Whether the server keeps what the rule made of a round: of messages that nobody can send once more."""
        return self.secret and self.hides == "message"

    def hearing(self, transforms: tuple[Transform, ...]) -> Self:
        """As clients apply it who were told of ``transforms``."""
        return self.model_copy(update={"transforms": transforms}) if transforms else self

    def keyed(self, key: bytes) -> Self:
        """As the server runs it, which alone has ``key``, 32 bytes, to draw secrets from."""
        return self.model_copy(update={"transforms": tuple(layer.keyed(key) for layer in self.transforms)})

    def _release(self, layer: Transform) -> Release | None:
        return layer.release(self.sampling_rate)

    @model_validator(mode="after")
    def _steps_add_up(self) -> Self:
        """What counts in local steps or learning rates holds for gradient descent only."""
        optimizer, scaffold = self.local.optimizer, self.correction.needs_plain_sgd
        plain = Sgd(learning_rate=optimizer.learning_rate) if isinstance(optimizer, Sgd) else None
        if scaffold and (optimizer != plain or self.local.clip_examples is not None):
            raise ValueError(
                f"correction {self.correction.kind} needs plain gradient descent: optimizer sgd with a learning rate "
                "and nothing else, and no clip_examples"
            )
        if self.rule.normalises_steps and not (isinstance(optimizer, Sgd) and optimizer.weight_decay is None):
            raise ValueError(f"rule {self.rule.kind} needs the optimizer sgd, without weight_decay")
        pull = self.correction.proximal * optimizer.learning_rate if isinstance(optimizer, Sgd) else 0.0
        if self.rule.normalises_steps and pull >= 1:
            raise ValueError(
                f"rule {self.rule.kind} cannot count steps that overshoot the proximal term: learning_rate times its "
                "weight must be below 1; lower one of them"
            )
        return self

    @model_validator(mode="after")
    def _updates_arrive_as_they_were(self) -> Self:
        if self.transforms and self.correction.mirrors_updates:
            raise ValueError(
                f"correction {self.correction.kind} takes no transforms: what clients keep would no longer match what "
                "the server sees"
            )
        return self

    @model_validator(mode="after")
    def _transforms_fit_each_other(self) -> Self:
        """Limits are for weights; fewer numbers come next, and codes last. What is fed back is in weights, too."""
        order = ("weights", "fewer", "codes")
        for before, after in pairwise(self.transforms):
            if before.makes == "codes" or (before.makes == "fewer" and order.index(after.makes) <= 1):
                raise ValueError(
                    f"transforms: {after.kind} cannot come after {before.kind}; first comes what limits weights (clip, "
                    "…), then one that sends fewer of them (top_k, random_k), then one that sends codes (quantise, …)"
                )
            if before.makes != "weights" and after.feeds_back:
                raise ValueError(
                    f"transforms: {after.kind} after {before.kind} cannot feed back what it loses; "
                    f"set {after.kind}'s error_feedback to false"
                )
        return self

    @model_validator(mode="after")
    def _no_rows_without_noise(self) -> Self:
        if self.unit is not None and self.rule.needs_root:
            raise ValueError(f"rule {self.rule.kind} trains on the server's own rows, which no noise hides")
        return self

    @model_validator(mode="after")
    def _records_are_told_of_by_noise_alone(self) -> Self:
        if self.local.dp_sgd is None:
            return self
        if self.release is not None:
            raise ValueError("only one of local.dp_sgd and the transforms may add noise: it is counted by one unit")
        if self.rule.needs_loss or self.select.asks_losses:
            kind = self.rule.kind if self.rule.needs_loss else self.select.kind
            raise ValueError(f"{kind} asks clients for losses, which dp_sgd does not noise; choose another")
        return self

    @model_validator(mode="after")
    def _noise_hides_what_it_says(self) -> Self:
        noising = [layer for layer in self.transforms if layer.noised_by != "nobody"]
        if not noising:
            return self
        layer, kind = noising[0], noising[0].kind
        if len(noising) > 1:
            raise ValueError(f"transforms: one of them may add noise, got {len(noising)}")
        if layer.hides == "sum":
            self._sums_as_noise_needs(layer, kind)
        if layer.noised_by == "clients":
            self._tells_no_more_than_messages(kind)
        elif layer.sized is not None:
            self._draws_without_rows(kind)
        elif self.select.sampling_rate is None:
            raise ValueError(
                f"select {self.select.kind} does not draw each client by itself, so what {kind} costs is not known; "
                "use poisson, or all"
            )
        if self.correction.extra_vectors:
            raise ValueError(f"correction {self.correction.kind} sends vectors that {kind} does not noise; use fedprox")
        return self

    def _sums_as_noise_needs(self, layer: Transform, kind: str) -> None:
        if layer is not self.transforms[-1]:
            raise ValueError(f"transforms: {kind} must be the last: what comes after it could undo its clipping")
        if self.rule.share is None:
            raise ValueError(
                f"rule {self.rule.kind} has no bound on what one client counts, so {kind} cannot size its noise; use "
                "fixed_mean"
            )
        if layer.counts_clients and not self.rule.equal:
            raise ValueError(
                f"rule {self.rule.kind} with cap weighs clients, but {kind} counts them; leave out cap, or use "
                "central_gaussian"
            )
        layer.check(self.rule.share)

    def _tells_no_more_than_messages(self, kind: str) -> None:
        """Where the server may learn nothing but noised vectors, it must not need more."""
        if not self.rule.equal:
            raise ValueError(
                f"rule {self.rule.kind} goes by what clients say of themselves (rows, steps, loss), which {kind} does "
                "not hide; use mean or a robust rule, or fixed_mean without cap"
            )
        self._draws_without_rows(kind)

    def _draws_without_rows(self, kind: str) -> None:
        if self.select.asks_rows:
            raise ValueError(
                f"select {self.select.kind} goes by what clients hold, which {kind} does not hide; use uniform, "
                "poisson or all"
            )
