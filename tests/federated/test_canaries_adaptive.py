"""The count that an adaptive clip norm follows is released too: an attacker looks at both, and finds no more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from federated.privacy.auditing import Scored, clopper_pearson, noise_at_most, one_run
from federated.privacy.canaries import audited_round, draw
from federated.rounds import initial_state
from federated.rules import FixedMean
from federated.transforms import AdaptiveGaussian, CentralGaussian, adaptive
from tests.fakes import FakeEngine
from tests.federated.test_canaries import DELTA, algorithm

CLIENTS = 25.0
"""Expected in a round: the fewest that are not refused, where the count tells most."""

NOISE = AdaptiveGaussian(norm=1.0, noise_multiplier=1.0, seeded=True)
LIMITED = NOISE.deviation(1 / CLIENTS) * CLIENTS
ENGINE = FakeEngine()


def scored(rounds: int, by_update: float = 1.0, by_count: float = 1.0) -> Scored:
    """From rounds with one canary each, of which all others are known: what one client changes of what is released.

    Its update is too long, so that it counts as -½. Both are weighted by how far they move over their noise's variance.
    """
    audited = algorithm(NOISE).model_copy(update={"rule": FixedMean(expected=CLIENTS)})
    begun = initial_state(audited, ENGINE, 1)
    canary = draw(1, ENGINE.trainable, 10.0, np.random.default_rng(0))
    included, scores = np.random.default_rng(1).random(rounds) < 0.5, np.empty(rounds)
    for place in range(rounds):
        one = audited.model_copy(update={"seed": place})
        after, seen = audited_round(
            one, ENGINE.layers, begun, [], canary._replace(included=included[place : place + 1])
        )
        share = NOISE.quantile - math.log(after.transforms[0].norm / NOISE.norm) / NOISE.step
        counted = (share - 0.5) * CLIENTS
        update = seen.scores[0] * CLIENTS
        scores[place] = by_update * update / LIMITED**2 - by_count * counted * 0.5 / (CLIENTS / 20) ** 2
    return Scored(scores, included)


def test_update_and_count_together_tell_no_more_than_is_paid_for() -> None:
    found = scored(4000)
    assert max(clopper_pearson(found, DELTA), one_run(found, DELTA)) <= 4.378
    assert 1.0 <= noise_at_most(found) < 1.35


def test_each_tells_less_than_both() -> None:
    both, update, count = (noise_at_most(scored(4000, *by)) for by in ((1, 1), (1, 0), (0, 1)))
    assert both < update < count < math.inf


def test_a_count_without_noise_is_caught(monkeypatch) -> None:
    whole = adaptive.with_noise

    def bare(vector, deviation, draws):
        return vector if vector.size == 1 else whole(vector, deviation, draws)

    monkeypatch.setattr(adaptive, "with_noise", bare)
    found = scored(4000, by_update=0.0)
    assert min(clopper_pearson(found, DELTA), one_run(found, DELTA)) > 4.378


@pytest.mark.slow
def test_a_count_that_is_not_paid_for_is_caught(monkeypatch) -> None:
    """Noise on updates as if they were all that is released."""
    assert noise_at_most(scored(40_000)) >= 1.0
    monkeypatch.setattr(AdaptiveGaussian, "deviation", CentralGaussian.deviation)
    assert noise_at_most(scored(40_000)) < 1.0
