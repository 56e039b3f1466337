"""Noise on the client: every message is private by itself, and nothing else leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from federated.algorithm import Algorithm
from federated.corrections import FedProx, Scaffold
from federated.errors import PlanError
from federated.loop import one_round
from federated.onion import Trained, decode, encode
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.releases import Gaussian
from federated.rounds import initial_state
from federated.rules import FedNova, FixedMean, Krum, Mean, Median, QFedAvg, Rule, TrimmedMean, WeightedMean
from federated.selectors import BySize, CustomSelector, Poisson, PowerOfChoice, Uniform
from federated.transforms import AnyTransform, CentralGaussian, Clip, LocalGaussian, Quantise, Sign, TopK
from federated.updates import l2_norm
from tests.fakes import FakeEngine, line_federation, update

SIZE = 40_000
SEEDED = LocalGaussian(norm=0.5, noise_multiplier=2.0, seeded=True)
SECRET = LocalGaussian(norm=0.5, noise_multiplier=2.0)
each = pytest.mark.parametrize("noise", [SEEDED, SECRET], ids=["seeded", "secret"])


def sent(noise: LocalGaussian, delta, seed: int = 0):
    return noise.encode(update("a", delta), (len(delta),), np.random.default_rng(seed))


def algorithm(**changes) -> Algorithm:
    return Algorithm(**{"rule": Mean(), "transforms": (SECRET,), "select": Uniform(cohort=3)} | changes)


@each
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6])
def test_a_message_is_the_clipped_update_and_noise_of_the_size_that_is_said(noise, scale) -> None:
    """Standard deviation 2.0 · 0.5."""
    delta = (np.random.default_rng(1).normal(size=SIZE) * scale).astype(np.float32)
    drawn = (
        sent(noise, delta).delta - Clip(norm=0.5).encode(update("a", delta), (SIZE,), np.random.default_rng(0)).delta
    )
    assert np.std(drawn) == pytest.approx(1.0, rel=0.025)  # seven standard errors
    assert stats.kstest(drawn, "norm").pvalue > 1e-6


def test_seeded_noise_is_that_of_the_seed_and_secret_noise_of_nothing() -> None:
    zeros = np.zeros(SIZE, np.float32)
    np.testing.assert_array_equal(sent(SEEDED, zeros).delta, sent(SEEDED, zeros).delta)
    for noise, seeds in ((SEEDED, (0, 1)), (SECRET, (0, 0))):
        one, other = (sent(noise, zeros, seed).delta for seed in seeds)
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.04


def test_what_is_clipped_is_never_further_from_nothing_than_the_norm_nor_from_another_than_twice_that() -> None:
    rng = np.random.default_rng(2)
    clipped = [
        Clip.encode(SECRET, update("a", rng.normal(size=7) * 10.0**power), (7,), rng).delta for power in range(-5, 6)
    ]
    assert max(map(l2_norm, clipped)) <= 0.5 * (1 + 1e-6)
    assert max(l2_norm(one - other) for one in clipped for other in clipped) <= 1.0 * (1 + 1e-6)


@each
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_of_an_update_that_is_not_finite_not_even_that_leaves_the_client(noise, wrong) -> None:
    zeros, delta = np.zeros(SIZE, np.float32), np.full(SIZE, 3.0, np.float32)
    delta[7] = wrong
    message = sent(noise, delta).delta
    assert stats.kstest(message, "norm").pvalue > 1e-6
    if not noise.secret:
        np.testing.assert_array_equal(message, sent(noise, zeros).delta)


def test_nothing_that_noise_does_not_hide_leaves_the_client() -> None:
    told = replace(update("a", [3.0, 4.0], 17.0), metrics={"train_loss": 0.5}, local_steps=9.0, loss=0.7)
    for layers in ((SECRET,), (Clip(norm=1.0), SECRET, Quantise())):
        chain = algorithm(transforms=layers)
        one = encode(chain, 1, (2,), Trained(told, {})).update
        assert (one.client, one.weight, one.local_steps, one.loss) == ("a", 1.0, 1.0, None)
        assert set(one.metrics) <= {"quantise_bytes_before", "quantise_bytes_after"}
    kept = encode(algorithm(transforms=(Clip(norm=1.0),)), 1, (2,), Trained(told, {})).update
    assert (kept.weight, kept.loss, kept.metrics["train_loss"]) == (17.0, 0.7, 0.5)


def test_what_comes_after_noise_works_on_what_is_noised() -> None:
    chain = algorithm(transforms=(SEEDED, TopK(share=0.5), Quantise()))
    one = encode(chain, 1, (100,), Trained(update("a", np.zeros(100)), {})).update
    assert one.nbytes < 400
    assert l2_norm(decode(chain, 1, 100, one).delta) > 5


def test_a_round_costs_the_same_whoever_was_drawn_and_however() -> None:
    expected = Gaussian(noise_multiplier=2.0, sampling_rate=1.0)
    for select in (Uniform(cohort=3), Poisson(rate=0.01)):
        assert algorithm(select=select).release == expected
    cost = epsilon([SelfComposed(algorithm().release, 4)], 1e-5).best  # four of 2 are one of 1
    assert cost == pytest.approx(4.3772, abs=1e-4)


@pytest.mark.parametrize(
    "rule",
    [Mean(), FixedMean(expected=2.0), Median(), Krum(byzantine=1), Krum(byzantine=0), TrimmedMean(trim=0.0)],
    ids=repr,
)
@pytest.mark.parametrize("transforms", [(SECRET,), (Clip(norm=3.0), SECRET), (SECRET, Sign())], ids=["1", "2", "3"])
def test_rules_that_ask_for_nothing_else_take_it_and_so_do_codes(rule: Rule, transforms) -> None:
    mixed = algorithm(rule=rule, transforms=transforms, correction=FedProx(mu=0.1))
    assert (mixed.noised_by, mixed.hides, mixed.survivors, mixed.messages_repeat) == ("clients", "message", 0, False)
    assert algorithm(rule=rule, transforms=(SEEDED,)).messages_repeat


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rule": WeightedMean()}, "rule weighted_mean goes by what clients say of themselves.*use mean"),
        ({"rule": FixedMean(expected=2.0, cap=10)}, "rule fixed_mean goes by what clients say.*without cap"),
        ({"rule": FedNova()}, "rule fednova goes by what clients say"),
        ({"rule": QFedAvg(q=1.0, lipschitz=1.0)}, "rule qfedavg goes by what clients say"),
        ({"select": PowerOfChoice(cohort=2, candidates=3)}, "select power_of_choice goes by what clients hold"),
        ({"select": BySize(cohort=2)}, "select by_size goes by what clients hold.*use uniform"),
        (
            {"select": CustomSelector(target="federated.selectors:BySize", options={"cohort": 2})},
            "select custom goes by what clients hold",
        ),
        ({"correction": Scaffold()}, "correction scaffold sends vectors that local_gaussian does not noise"),
        ({"transforms": (TopK(share=0.1), SECRET)}, "local_gaussian cannot come after top_k"),
        ({"transforms": (SECRET, CentralGaussian(norm=1, noise_multiplier=1))}, "one of them may add noise, got 2"),
    ],
)
def test_what_noise_on_a_message_does_not_hide_is_refused(changes, said) -> None:
    with pytest.raises(ValidationError, match=said):
        algorithm(**changes)


def test_moving_statistics_are_refused_because_they_are_not_noised() -> None:
    with pytest.raises(PlanError, match="no noise hides what no gradient moves"):
        initial_state(algorithm(), FakeEngine(statistics=2), 10)


@pytest.mark.parametrize("wrong", [{"norm": 0}, {"norm": float("inf")}, {"noise_multiplier": 0}])
def test_what_hides_nothing_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        LocalGaussian(**{"norm": 1.0, "noise_multiplier": 1.0} | wrong)


@pytest.mark.parametrize("rule", [Mean(), Median()], ids=repr)
def test_a_round_that_is_done_again_comes_to_the_same_weights_whatever_clients_send(rule: Rule) -> None:
    clients = line_federation(clients=5).clients
    chain = algorithm(rule=rule)
    before = initial_state(chain, FakeEngine(), 5)
    done = one_round(chain, FakeEngine(), before, clients, {})
    other = one_round(chain, FakeEngine(), before, clients, {}, selection=done.selection)
    assert (other.state.params != done.state.params).any()
    known = done.state.aggregate
    repeated = one_round(chain, FakeEngine(), before, clients, {}, selection=done.selection, known=known)
    np.testing.assert_array_equal(repeated.state.params, done.state.params)
    np.testing.assert_array_equal(repeated.state.aggregate, known)


def test_seeded_noise_is_done_again_by_its_seed() -> None:
    chain = algorithm(transforms=(SEEDED,))
    assert initial_state(chain, FakeEngine(), 5).aggregate is None
    clients = line_federation(clients=5).clients
    before = initial_state(chain, FakeEngine(), 5)
    once, again = (one_round(chain, FakeEngine(), before, clients, {}).state for _ in range(2))
    np.testing.assert_array_equal(once.params, again.params)
    assert once.aggregate is None


def test_the_mean_of_many_noised_messages_comes_near_that_of_the_updates() -> None:
    rule, truth = Mean(), np.array([0.3, -0.4], np.float32)
    messages = [replace(sent(SEEDED, truth, seed), client=f"c{seed}") for seed in range(4000)]
    found = rule.next(rule.init(2), messages).result
    assert np.abs(found - truth).max() < 5 / np.sqrt(4000)


def test_it_can_be_written_in_a_plan() -> None:
    written = {"kind": "local_gaussian", "norm": 0.5, "noise_multiplier": 2.0}
    assert TypeAdapter(AnyTransform).validate_python(written) == SECRET
