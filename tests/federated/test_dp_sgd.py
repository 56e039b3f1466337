"""The batches of DP-SGD are those that its accountant assumes."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from federated.dp_sgd import DpSgd
from federated.local_training import LocalTraining
from federated.privacy.releases import Gaussian, TruncatedGaussian

HOW = DpSgd(norm=1.0, noise_multiplier=1.1)


def test_every_row_is_in_a_batch_by_itself_with_the_same_probability() -> None:
    draws = HOW.draw(20, 200, 3000, np.random.default_rng(0))
    assert draws.places.shape == draws.counts.shape == (3000, 43)
    drawn = [set(places[counts > 0].tolist()) for places, counts in zip(*draws, strict=True)]
    assert all(len(rows) == counts.sum() for rows, counts in zip(drawn, draws.counts, strict=True)), "no row twice"
    often = np.bincount([row for rows in drawn for row in rows], minlength=200)
    assert stats.binomtest(int(often.sum()), 200 * 3000, 0.1).pvalue > 1e-6
    assert stats.chisquare(often).pvalue > 1e-6
    sizes = draws.counts.sum(axis=1)
    assert np.var(sizes) == pytest.approx(200 * 0.1 * 0.9, rel=0.15), "batches of one size would not be Poisson"
    together = np.mean([{0, 1} <= rows for rows in drawn])
    assert together == pytest.approx(0.01, abs=0.008), "pairs are as rare as two rows by themselves"


def test_batches_that_are_too_large_are_cut_by_chance() -> None:
    draws = DpSgd(norm=1.0, noise_multiplier=1.0, most=10).draw(10, 100, 2000, np.random.default_rng(0))
    assert draws.places.shape == (2000, 10)
    assert draws.counts.sum(axis=1).max() == 10
    rows = draws.places[draws.counts > 0]
    assert stats.chisquare(np.bincount(rows, minlength=100)).pvalue > 1e-6


def test_a_batch_of_all_rows_is_all_rows_in_every_step() -> None:
    for batch in (30, 64):
        draws = HOW.draw(batch, 30, 2, np.random.default_rng(0))
        np.testing.assert_array_equal(draws.places, np.tile(np.arange(30), (2, 1)))
        assert draws.counts.all()


def test_what_a_step_costs_is_what_it_draws() -> None:
    assert HOW.release(20, 200) == TruncatedGaussian(noise_multiplier=1.1, sampling_rate=0.1, units=200, most=43)
    assert HOW.release(150, 200) == TruncatedGaussian(noise_multiplier=1.1, sampling_rate=0.75, units=200, most=200)
    assert HOW.release(200, 200) == HOW.release(300, 200) == Gaussian(noise_multiplier=1.1)
    cut = DpSgd(norm=1.0, noise_multiplier=1.1, most=25)
    assert cut.release(20, 200) == TruncatedGaussian(noise_multiplier=1.1, sampling_rate=0.1, units=200, most=25)


@pytest.mark.parametrize(
    "wrong", [{"norm": 0}, {"norm": np.inf}, {"noise_multiplier": 0}, {"noise_multiplier": -1}, {"most": 0}]
)
def test_what_hides_nothing_or_everything_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        DpSgd(**{"norm": 1.0, "noise_multiplier": 1.0} | wrong)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="dp_sgd has a norm of its own; leave clip_examples out"):
        LocalTraining(dp_sgd=HOW, clip_examples=1.0)
    with pytest.raises(ValidationError, match=r"dp_sgd\.most must be at least batch_size, got 16 and 32"):
        LocalTraining(dp_sgd=DpSgd(norm=1, noise_multiplier=1, most=16), batch_size=32)
