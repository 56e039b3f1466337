"""Correlated noise against who has seen a whole training: its rounds hide together what none hides alone."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from federated.errors import TrainingError
from federated.privacy.auditing import noise_at_most
from federated.privacy.canaries import in_the_first
from federated.privacy.prefix_sums import sensitivity
from federated.transforms import CorrelatedGaussian
from tests.federated.test_canaries import bounds
from tests.federated.test_canaries_mechanisms import MECHANISMS, ROUNDS, by_training, claim, correlated, rows_of, scored

AUDIT = MECHANISMS["correlated_gaussian"]
CLAIM = claim(AUDIT)


def asked(claimed: int, often: int):
    """Noise for a client in so many rounds, and canaries in how many they like."""
    return AUDIT._replace(made=partial(correlated, participations=claimed), attack=partial(by_training, often=often))


def by_row(row: int):
    """The attack by one row alone."""
    return AUDIT._replace(attack=lambda *given: given[-1].told(rows_of(*given)[row]))


@pytest.mark.parametrize("often", [1, 4, ROUNDS])
def test_a_client_in_as_many_rounds_as_claimed_is_hidden_and_noise_is_no_larger_than_that_takes(often) -> None:
    found = scored(asked(often, often))
    assert 1.0 <= noise_at_most(found) < 1.35
    assert 0.9 < min(bounds(found)) <= max(bounds(found)) <= CLAIM


def test_no_round_alone_tells_what_all_tell_together() -> None:
    alone = [noise_at_most(scored(by_row(row))) for row in range(ROUNDS)]
    assert min(alone) > 1.5 * noise_at_most(scored(AUDIT))


def test_the_weights_are_what_one_client_changes() -> None:
    for often in (1, 3, ROUNDS):
        assert np.linalg.norm(in_the_first(often, ROUNDS)) == pytest.approx(sensitivity(ROUNDS, often), rel=1e-12)


@pytest.mark.parametrize("bare", range(ROUNDS))
def test_a_round_whose_own_noise_is_left_out_is_caught(bare, monkeypatch) -> None:
    """Noise of other rounds is in it, and the factor takes it away."""
    whole = CorrelatedGaussian._sum

    def without(self, weights, nonces, size):
        zeros = np.where(np.arange(weights.size)[::-1] == bare, weights, 0.0)
        return whole(self, weights, nonces, size) - whole(self, zeros, nonces, size)

    monkeypatch.setattr(CorrelatedGaussian, "_sum", without)
    assert min(bounds(scored(by_row(bare)))) > CLAIM


def test_noise_that_every_round_draws_alike_is_caught(monkeypatch) -> None:
    """Two rows have the same noise, and a client moves one of them further."""
    whole = CorrelatedGaussian._sum

    def alike(self, weights, nonces, size):
        return weights.sum() * whole(self, np.ones(1), nonces[:1], size)

    monkeypatch.setattr(CorrelatedGaussian, "_sum", alike)

    def by_difference(audited, state, canaries):
        first, second, *_ = rows_of(audited, state, canaries)
        return canaries.told(second - first)

    assert min(bounds(scored(AUDIT._replace(attack=by_difference)))) > CLAIM


@pytest.mark.parametrize(("often", "most"), [(2, 1.0), (4, 0.5)])
def test_a_client_in_more_rounds_than_claimed_is_refused_and_caught_where_it_is_not(often, most, monkeypatch) -> None:
    with pytest.raises(TrainingError, match="has taken part in 1 rounds, for which its noise is sized"):
        scored(asked(1, often))
    monkeypatch.setattr(CorrelatedGaussian, "_require_sized", lambda *_: None)
    assert noise_at_most(scored(asked(1, often))) < most
