"""Noise that every client adds to what it sends: privacy against the server, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from federated.privacy.releases import Gaussian, Release
from federated.randomness import secret_normals
from federated.transforms.noising import ClippedNoise, finite_or_zero, with_noise
from federated.transforms.transform import Hides, Layers, NoisedBy
from federated.updates import Update


class LocalGaussian(ClippedNoise):
    """Client-level differential privacy on the client: it clips its update, and noises it before it leaves.

    An update is scaled down to an L2 norm of at most ``norm``; Gaussian noise with a standard deviation of
    ``noise_multiplier`` · ``norm`` is added to each coordinate. It comes from the operating system's entropy; with
    ``seeded``, for simulations only, from the plan's seed.

    Guarantees: whoever sees the messages, the server included, learns of a client no more than (ε, δ) from each. Its
    data or none, which is a zero update in their place (zero-out: Kairouz et al. 2021), change a message by an L2 norm
    of at most ``norm``, which is what ``noise_multiplier`` is over. Two different updates are up to 2 ``norm`` apart:
    between these, as local differential privacy is mostly defined, ε is that of half the multiplier. Who takes part is
    not hidden, so that sampling gains nothing. Weight, steps, loss and metrics do not leave the client.

    What comes after it, codes or a robust rule, works on noised numbers and costs nothing more.

    =====================  ==========================
    edge case              answer
    =====================  ==========================
    zero update            noised like any other
    NaN or infinite        as zero: that training failed is hidden, too
    cohort of one, of none  one message, or none: noised like any other
    a client that drops    nothing: no message hides in others
    ``norm``: 0 or ∞       refused: nothing would be learnt, or nothing hidden
    no noise               refused: ``clip`` does that
    =====================  ==========================
    """

    kind: Literal["local_gaussian"] = "local_gaussian"  # type: ignore[assignment]

    @property
    def noised_by(self) -> NoisedBy:
        return "clients"

    @property
    def hides(self) -> Hides:
        return "message"

    def release(self, sampling_rate: float) -> Release | None:
        return Gaussian(noise_multiplier=self.noise_multiplier)

    def init(self, size: int) -> Any:
        return None

    def encode(self, update: Update, layers: Layers, rng: np.random.Generator) -> Update:
        clipped = super().encode(replace(update, delta=finite_or_zero(update.delta)), layers, rng).delta
        draw = secret_normals if self.secret else rng.standard_normal
        return replace(update, delta=with_noise(clipped, self.noise_multiplier * self.norm, draw))
