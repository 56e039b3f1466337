"""Gates: laws over the family, oracles for the statistics, and what a person reads."""

from __future__ import annotations

import math
import tracemalloc
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from federated import comparison
from federated.comparison import losses, upper_bound
from federated.engine import SMALLER_IS_BETTER
from federated.errors import DataError, PlanError
from federated.gates import (
    AnyGate,
    AtLeast,
    AtMost,
    Epsilon,
    Gate,
    Latency,
    NotWorse,
    Privacy,
    Schema,
    Scores,
    Size,
    Verdict,
    WorstClient,
)
from federated.promotion import Decision, Promotion, judge_all
from tests.federated.families import GATES

COMPARING = tuple(gate for gate in GATES if isinstance(gate, NotWorse | WorstClient | Schema))
MEASURING = tuple(gate for gate in GATES if hasattr(gate, "metric"))
each_gate = pytest.mark.parametrize("gate", GATES, ids=repr)
each_comparing_gate = pytest.mark.parametrize("gate", COMPARING, ids=repr)
each_measuring_gate = pytest.mark.parametrize("gate", MEASURING, ids=repr)
each_relative_gate = pytest.mark.parametrize("cls", [NotWorse, WorstClient])
each_metric = pytest.mark.parametrize("metric", SMALLER_IS_BETTER)

SPENT = Privacy(3.0, "client", 1e-5, simulated=False, assumed="zero_out, sampling poisson")
SCHEMA = {"inputs": [{"name": "x", "type": "double", "shape": [-1, 4]}], "outputs": [{"type": "float"}]}


def rows(count: int, seed: int) -> dict[str, np.ndarray]:
    """What an engine says of each row: right nine times in ten."""
    rng = np.random.default_rng(seed)
    numbers = {"loss": rng.exponential(0.3, count), "mae": rng.exponential(0.5, count)}
    return {name: values.astype(np.float32) for name, values in numbers.items()} | {
        "accuracy": (rng.random(count) < 0.9).astype(np.float32)
    }


def model(seed: int = 0, count: int = 1000, **changes) -> Scores:
    clients = {f"client-{n}": rows(40, 100 * seed + n) for n in range(3)}
    return Scores(rows(count, seed), clients, SPENT, 0.002, 2_000_000, SCHEMA)._replace(**changes)


def worsen(scores: dict[str, np.ndarray], amount: float) -> dict[str, np.ndarray]:
    """``amount`` more loss and absolute error on every row, and that share of rows wrong that were right."""
    wrong = scores["accuracy"].copy()
    wrong[np.flatnonzero(wrong)[: round(amount * len(wrong))]] = 0
    return {"loss": scores["loss"] + amount, "mae": scores["mae"] + amount, "accuracy": wrong}


def spoil(scores: dict[str, np.ndarray], value: float) -> dict[str, np.ndarray]:
    """One row of each metric replaced by ``value``."""
    return {name: np.append(values[1:], np.float32(value)) for name, values in scores.items()}


def test_a_model_that_was_trained_under_attack_is_refused_by_any_gates_and_by_none() -> None:
    for gates in ((), GATES[:1]):
        decision = judge_all(gates, model(attacked=True), None, seed=0)
        assert not decision.passed
        assert decision.verdicts[-1].gate == "no_attacks"
        assert "no_attacks" not in judge_all(gates, model(), None, seed=0).as_markdown()


def judge(gate: Gate, candidate: Scores, champion: Scores | None, seed: int = 0) -> Verdict:
    return judge_all([gate], candidate, champion, seed).verdicts[0]


# Laws


def test_every_gate_is_in_the_table_and_no_two_rows_share_a_name() -> None:
    assert {type(gate) for gate in GATES} == set(get_args(get_args(AnyGate)[0]))
    assert len({gate.name for gate in GATES}) == len(GATES)


@each_gate
@pytest.mark.parametrize("seed", range(5))
def test_a_good_candidate_never_fails_against_itself(gate, seed) -> None:
    assert judge(gate, model(seed), model(seed), seed).passed


@each_relative_gate
@each_metric
@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_nothing_is_worse_than_itself_however_few_its_rows(cls, metric, count) -> None:
    clients = {"only": rows(count, seed=1)}
    same = model(count=count, clients=clients)
    assert judge(cls(metric=metric, by=0), same, same).passed


@each_comparing_gate
def test_gates_that_compare_pass_while_there_is_no_champion(gate) -> None:
    verdict = judge(gate, model(), None)
    assert verdict.passed
    assert verdict.reason == "there is no champion yet"


@each_gate
def test_a_gate_that_compares_nothing_says_the_same_with_and_without_a_champion(gate) -> None:
    alike = judge(gate, model(), None) == judge(gate, model(), model())
    assert alike == (gate not in COMPARING)


@each_relative_gate
@each_metric
@pytest.mark.parametrize("seed", range(4))
def test_allowing_more_never_turns_a_pass_into_a_refusal(cls, metric, seed) -> None:
    candidate, champion = model(seed), model(seed + 50)
    allowed = np.linspace(0, 0.5, 21)
    passed = [judge(cls(metric=metric, by=by), candidate, champion, seed).passed for by in allowed]
    assert passed == sorted(passed)
    assert passed[-1]


@each_metric
@pytest.mark.parametrize("seed", range(4))
def test_asking_for_more_confidence_never_turns_a_refusal_into_a_pass(metric, seed) -> None:
    values = losses("gate", metric, model(seed).test, model(seed + 50).test)
    bounds = [upper_bound(values, c, 2000, np.random.default_rng(seed)) for c in np.linspace(0.51, 0.99, 25)]
    assert bounds == sorted(bounds)


@each_measuring_gate
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_never_passes_whoever_has_it(gate, wrong) -> None:
    sound = model()
    spoilt = model(test=spoil(sound.test, wrong), clients=sound.clients | {"client-1": spoil(rows(9, 1), wrong)})
    fitting = sound._replace(clients=sound.clients | {"client-1": rows(9, 1)})
    lenient = gate.model_copy(update={"by": 1e9}) if gate in COMPARING else gate
    rivals = (fitting, spoilt, None)
    pairs = [(spoilt, rival) for rival in rivals] + [(fitting, spoilt)] * (gate in COMPARING)
    for candidate, champion in pairs:
        verdict = judge(lenient, candidate, champion)
        assert not verdict.passed
        assert "NaN or infinite" in verdict.reason


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_no_number_never_passes(wrong) -> None:
    costs = (
        (Epsilon(at_most=8, unit="client", delta=1e-5), {"privacy": SPENT._replace(epsilon=wrong)}),
        (Latency(milliseconds=9), {"latency": wrong}),
    )
    for gate, cost in costs:
        verdict = judge(gate, model(**cost), None)
        assert not verdict.passed
        assert verdict.measured == "NaN or infinite"


@each_measuring_gate
def test_a_metric_that_was_not_measured_is_an_error_that_names_those_that_were(gate) -> None:
    poor = model(test={"other": np.ones(3)}, clients={"a": {"other": np.ones(3)}})
    where = r"worst_client \w+ of a" if isinstance(gate, WorstClient) else gate.name
    with pytest.raises(PlanError, match=f"^{where}: expected {gate.metric} among the scores, got other; name another"):
        judge(gate, poor, None)


@each_measuring_gate
def test_no_test_rows_at_all_are_an_error_that_asks_for_some(gate) -> None:
    empty = {name: np.empty(0, np.float32) for name in SMALLER_IS_BETTER}
    with pytest.raises(DataError, match=f"^{gate.name}: expected .*hold out"):
        judge(gate, model(test=empty, clients={"a": empty, "b": {}}), None)


def test_scores_that_are_not_one_number_a_row_are_an_error() -> None:
    with pytest.raises(DataError, match=r"expected one number a test row, got shape \(5, 2\)"):
        judge(AtMost(metric="loss", value=1.0), model(test={"loss": np.ones((5, 2))}), None)


@each_measuring_gate
def test_test_rows_that_differ_in_number_are_an_error_where_models_are_compared(gate) -> None:
    other = model(count=900, clients={name: rows(39, 5) for name in model().clients})
    if gate not in COMPARING:
        assert judge(gate, model(), other).passed
        return
    numbers = "40 of the candidate and 39" if isinstance(gate, WorstClient) else "1000 of the candidate and 900"
    with pytest.raises(DataError, match=f"expected both models on the same rows, got {numbers} of the champion"):
        judge(gate, model(), other)


@each_gate
def test_a_verdict_is_made_of_short_texts(gate) -> None:
    for verdict in (judge(gate, model(1), model(2)), judge(gate, model(), None)):
        assert verdict.gate == gate.name
        texts = (verdict.measured, verdict.allowed, verdict.reason)
        assert all(0 < len(text) < 80 and "\n" not in text for text in texts)


# Limits


@pytest.mark.parametrize(
    ("gate", "right", "wrong"),
    [
        (AtLeast(metric="accuracy", value=0.75), {"test": {"accuracy": [1, 1, 1, 0]}}, {"test": {"accuracy": [1, 0]}}),
        (AtMost(metric="loss", value=0.5), {"test": {"loss": [0, 1]}}, {"test": {"loss": [0.01, 1]}}),
        (AtMost(metric="mae", value=0.5), {"test": {"mae": [0, 1]}}, {"test": {"mae": [0.01, 1]}}),
        (
            Epsilon(at_most=8, unit="client", delta=1e-5),
            {"privacy": SPENT._replace(epsilon=8.0)},
            {"privacy": SPENT._replace(epsilon=8.01)},
        ),
        (Latency(milliseconds=2), {"latency": 0.002}, {"latency": 0.0021}),
        (Size(megabytes=2), {"size": 2_000_000}, {"size": 2_000_001}),
    ],
    ids=lambda value: value.name if isinstance(value, Gate) else "",
)
def test_a_limit_may_be_reached_and_not_crossed(gate, right, wrong) -> None:
    assert judge(gate, model(**right), None).passed
    assert not judge(gate, model(**wrong), None).passed


def test_a_training_without_a_privacy_guarantee_is_refused_where_one_is_asked_for() -> None:
    verdict = judge(Epsilon(at_most=1e9, unit="client", delta=1e-5), model(privacy=None), None)
    assert not verdict.passed
    assert verdict.reason == "the candidate has no privacy guarantee"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"simulated": True}, "the candidate is of a simulation, whose noise protects nobody"),
        ({"unit": "record"}, "epsilon is of a record, the gate asks for a client"),
        ({"delta": 1e-3}, "epsilon is at delta 0.001, the gate asks for 1e-05"),
        ({"delta": 1e-9}, "epsilon is at delta 1e-09, the gate asks for 1e-05"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_epsilon_that_says_nothing_of_what_the_gate_names_does_not_pass(change, reason) -> None:
    gate = Epsilon(at_most=8, unit="client", delta=1e-5)
    assert judge(gate, model(), None).measured == "3 of a client, delta 1e-05, zero_out, sampling poisson"
    verdict = judge(gate, model(privacy=SPENT._replace(**change)), None)
    assert (verdict.passed, verdict.reason) == (False, reason)
    assert verdict.allowed == "at most 8 of a client, delta 1e-05"


@pytest.mark.parametrize("missing", ["unit", "delta"])
def test_a_gate_on_epsilon_names_the_unit_and_the_delta(missing) -> None:
    said = {"at_most": 8, "unit": "client", "delta": 1e-5}
    with pytest.raises(ValidationError, match=missing):
        Epsilon(**{name: value for name, value in said.items() if name != missing})


@pytest.mark.parametrize("metric", ["loss", "mae"])
def test_at_least_is_refused_where_smaller_is_better(metric) -> None:
    with pytest.raises(ValidationError, match=f"smaller is better for {metric}: use at_most, not at_least"):
        AtLeast(metric=metric, value=0.5)


def test_at_most_is_refused_where_larger_is_better() -> None:
    with pytest.raises(ValidationError, match="larger is better for accuracy: use at_least, not at_most"):
        AtMost(metric="accuracy", value=0.5)


# The schema


@pytest.mark.parametrize(
    ("schema", "changed"),
    [
        ({**SCHEMA, "inputs": []}, "inputs"),
        ({"inputs": SCHEMA["inputs"]}, "outputs"),
        ({**SCHEMA, "params": [{"name": "threshold"}]}, "params"),
        ({"inputs": 1, "outputs": 2}, "inputs, outputs"),
        ({**SCHEMA, "outputs": [{"type": "float"}, {"type": "float"}]}, "outputs"),
    ],
)
def test_a_candidate_that_breaks_the_schema_is_refused_and_the_change_named(schema, changed) -> None:
    verdict = judge(Schema(), model(schema=schema), model())
    assert not verdict.passed
    assert verdict.measured == f"other {changed}"
    assert not judge(Schema(), model(), model(schema=schema)).passed


def test_schemas_are_compared_as_json_whatever_the_order_of_their_keys() -> None:
    shuffled = {"outputs": ({"type": "float"},), "inputs": [dict(reversed(SCHEMA["inputs"][0].items()))]}
    assert judge(Schema(), model(schema=shuffled), model()).passed
    assert not judge(Schema(), model(schema={"a": 1}), model(schema={"a": True})).passed


# Not worse


@each_metric
def test_a_clearly_better_candidate_passes_with_nothing_allowed(metric) -> None:
    champion = model()
    worse = champion._replace(test=worsen(champion.test, 0.1))
    verdict = judge(NotWorse(metric=metric, by=0), champion, worse)
    assert verdict.passed
    assert "0.1 better, at worst" in verdict.measured
    assert verdict.measured.endswith("better")


@each_metric
def test_a_slightly_worse_candidate_passes_only_where_that_much_is_allowed(metric) -> None:
    champion = model()
    candidate = champion._replace(test=worsen(champion.test, 0.02))
    assert judge(NotWorse(metric=metric, by=0.04), candidate, champion).passed
    refused = judge(NotWorse(metric=metric, by=0.01), candidate, champion)
    assert not refused.passed
    assert refused.measured.startswith("0.02 worse, at worst")
    assert refused.allowed == "at most 0.01 worse, with 95% confidence"
    assert refused.reason == f"{metric} is worse than allowed"


@pytest.mark.parametrize(("count", "passed"), [(100, False), (20_000, True)])
def test_doubt_counts_against_the_candidate_and_rows_dispel_it(count, passed) -> None:
    """Two models that are right equally often, on different rows."""
    flips = np.arange(count) % 10
    candidate = model(test={"accuracy": (flips != 0).astype(np.float32)})
    champion = model(test={"accuracy": (flips != 5).astype(np.float32)})
    verdict = judge(NotWorse(metric="accuracy", by=0.01), candidate, champion)
    assert verdict.passed == passed
    assert verdict.measured.startswith("0 worse")
    if not passed:
        assert verdict.reason == "100 test rows cannot rule out that accuracy is worse than allowed"


def test_rows_are_compared_in_pairs() -> None:
    """A difference far smaller than the spread of the rows shows, because both models meet the same rows."""
    champion = model(count=200)
    better = champion._replace(test={"loss": champion.test["loss"] - np.float32(1e-3)})
    assert judge(NotWorse(metric="loss", by=0), better, champion).passed
    shuffled = champion._replace(test={"loss": np.random.default_rng(0).permutation(better.test["loss"])})
    assert not judge(NotWorse(metric="loss", by=0), shuffled, champion).passed


def test_more_confidence_asks_for_more_resamples() -> None:
    with pytest.raises(ValidationError, match=r"confidence=0\.999 needs at least 10000 resamples, got 2000"):
        NotWorse(metric="loss", by=0, confidence=0.999)
    assert NotWorse(metric="loss", by=0, confidence=0.999, resamples=10_000).confidence == 0.999
    assert NotWorse(metric="loss", by=0, confidence=0.95, resamples=200).resamples == 200


DRAWS = {
    "normal": lambda rng, n: rng.normal(0.1, 1, n),
    "a few lose much": lambda rng, n: rng.lognormal(0, 1, n),
    "a few win much": lambda rng, n: -rng.lognormal(0, 1, n),
    "0/1 metric": lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n, p=[0.03, 0.9, 0.07]),
}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@each_draw
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_the_bound_is_scipys_for_a_paired_bca_bootstrap(draw, confidence) -> None:
    rng = np.random.default_rng(3)
    champion = rng.integers(100, size=300).astype(np.float64)
    candidate = champion + draw(rng, 300)
    bound = upper_bound(candidate - champion, confidence, 2000, np.random.default_rng(1))
    means = comparison._resampled_means(candidate - champion, 2000, np.random.default_rng(1))
    oracle = stats.bootstrap(
        (candidate, champion),
        lambda ours, theirs, axis=-1: np.mean(ours - theirs, axis=axis),
        paired=True,
        confidence_level=confidence,
        alternative="less",
        method="BCa",
        n_resamples=0,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=means),
    ).confidence_interval.high
    # SciPy interpolates between two means; the bound is the larger of them.
    assert bound == pytest.approx(means[means > oracle - 1e-12].min(), abs=1e-12)


@each_draw
def test_resampled_means_are_distributed_as_scipys(draw) -> None:
    values = draw(np.random.default_rng(3), 300)
    means = comparison._resampled_means(values, 5000, np.random.default_rng(1))
    oracle = stats.bootstrap((values,), np.mean, n_resamples=5000, rng=np.random.default_rng(2))
    assert stats.ks_2samp(means, oracle.bootstrap_distribution).pvalue > 0.01


@pytest.mark.parametrize(("wins", "both", "losses_"), [(30, 940, 30), (5, 985, 10), (60, 900, 40)])
def test_the_bound_of_a_01_metric_is_a_quantile_of_its_multinomial_counts(wins, both, losses_) -> None:
    """To resample rows of three values is to draw how many there are of each."""
    values = np.repeat([-1.0, 0.0, 1.0], [wins, both, losses_])
    counts = stats.multinomial.rvs(1000, np.array([wins, both, losses_]) / 1000, size=200_000, random_state=1)
    exact = np.quantile((counts[:, 2] - counts[:, 0]) / 1000, 0.95)
    bound = upper_bound(values, 0.95, 10_000, np.random.default_rng(0))
    assert bound == pytest.approx(exact, abs=0.002)  # two rows: BCa's correction


@each_draw
def test_a_candidate_at_the_edge_of_what_is_allowed_passes_about_one_time_in_twenty(draw) -> None:
    rng = np.random.default_rng(0)
    truth = draw(rng, 2_000_000).mean()
    passed = [upper_bound(draw(rng, 300), 0.95, 400, rng) <= truth for _ in range(400)]
    assert 0.02 < np.mean(passed) < 0.09


def test_the_bound_of_equal_values_is_that_value_and_of_an_infinite_one_infinite() -> None:
    rng = np.random.default_rng(0)
    assert upper_bound(np.full(7, 0.1), 0.95, 200, rng) == 0.1
    assert upper_bound(np.array([0.3]), 0.95, 200, rng) == 0.3
    assert upper_bound(np.array([0.0, np.inf]), 0.95, 200, rng) == math.inf


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_bound_follows_the_unit_of_the_metric(scale) -> None:
    values = np.random.default_rng(0).exponential(1, 50)
    bound = upper_bound(values, 0.95, 500, np.random.default_rng(1))
    assert upper_bound(scale * values, 0.95, 500, np.random.default_rng(1)) == pytest.approx(scale * bound)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0] * 99 + [1.0], [0.0] * 99 + [-1.0], [1.0, 1.0 + 1e-15, 1.0]])
@pytest.mark.parametrize("confidence", [0.501, 0.95, 0.9999])
def test_the_bound_of_a_handful_of_values_lies_among_them(values, confidence) -> None:
    bound = upper_bound(np.array(values), confidence, 1000, np.random.default_rng(0))
    assert min(values) <= bound <= max(values)


def test_values_that_differ_by_rounding_alone_are_bounded_too() -> None:
    """All resampled means then lie on one side of the mean, where a normal quantile would be infinite."""
    values = np.where(np.arange(50) < 24, np.nextafter(0.1, 1), 0.1)
    assert upper_bound(values, 0.95, 200, np.random.default_rng(0)) == pytest.approx(0.1)


def test_the_size_of_a_block_changes_no_bit_of_the_bound(monkeypatch) -> None:
    values = np.random.default_rng(0).normal(size=101)
    whole = upper_bound(values, 0.95, 500, np.random.default_rng(1))
    for block in (1, 101, 7 * 101 + 3):
        monkeypatch.setattr(comparison, "BLOCK", block)
        assert upper_bound(values, 0.95, 500, np.random.default_rng(1)) == whole


def test_ten_thousand_rows_and_two_thousand_resamples_fit_in_little_memory() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    tracemalloc.start()
    upper_bound(values, 0.95, 2000, np.random.default_rng(1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


# The worst client


@each_metric
def test_a_candidate_that_fails_one_client_is_refused_and_the_client_named(metric) -> None:
    champion = model()
    one = {"client-1": worsen(champion.clients["client-1"], 0.2)}
    candidate = champion._replace(clients=champion.clients | one)
    verdict = judge(WorstClient(metric=metric, by=0.1), candidate, champion)
    assert not verdict.passed
    assert verdict.measured == "client-1: 0.2 worse"
    assert verdict.reason == f"{metric} of client-1 is worse than allowed"
    assert judge(WorstClient(metric=metric, by=0.21), candidate, champion).passed
    assert judge(WorstClient(metric=metric, by=0), champion, candidate).passed


def test_the_worst_client_is_the_one_that_lost_most_and_not_the_one_that_is_worst() -> None:
    champion = model(clients={"weak": {"accuracy": [0, 0, 0, 1]}, "strong": {"accuracy": [1, 1, 1, 1]}})
    candidate = model(clients={"weak": {"accuracy": [1, 0, 0, 1]}, "strong": {"accuracy": [1, 1, 1, 0]}})
    assert judge(WorstClient(metric="accuracy", by=0.5), candidate, champion).measured == "strong: 0.25 worse"


def test_an_allowance_may_be_used_up_to_the_last_row() -> None:
    champion, candidate = np.ones(10, np.float32), np.array([0] + [1] * 9, np.float32)
    pair = [model(clients={"a": {"accuracy": values}}) for values in (candidate, champion)]
    assert judge(WorstClient(metric="accuracy", by=0.1), *pair).passed
    assert not judge(WorstClient(metric="accuracy", by=0.0999), *pair).passed


def test_clients_without_test_rows_are_left_out() -> None:
    empty = {name: np.empty(0, np.float32) for name in SMALLER_IS_BETTER}
    without = model(clients=model().clients | {"none": {}, "empty": empty})
    assert judge(WorstClient(metric="loss", by=0), without, model()).passed
    assert judge(WorstClient(metric="loss", by=0), model(), without).passed


def test_a_client_that_only_one_model_was_scored_on_is_an_error_that_names_it() -> None:
    fewer = model(clients={name: values for name, values in model().clients.items() if name != "client-2"})
    for pair in ((fewer, model()), (model(), fewer)):
        with pytest.raises(DataError, match="got only one of them on client-2; score both again"):
            judge(WorstClient(metric="loss", by=9), *pair)


# All gates together


def test_one_refusal_refuses_the_promotion_and_all_verdicts_are_given_in_order() -> None:
    gates = (Size(megabytes=1), Schema(), Latency(milliseconds=5))
    decision = judge_all(gates, model(), model(), seed=0)
    assert not decision.passed
    assert [verdict.passed for verdict in decision.verdicts] == [False, True, True]
    assert [verdict.gate for verdict in decision.verdicts] == ["size", "schema", "latency"]


def test_without_gates_every_candidate_passes() -> None:
    assert judge_all((), model(), model(), seed=0) == Decision(True, ())


def test_a_decision_is_a_function_of_the_seed() -> None:
    decisions = [judge_all(GATES, model(1), model(2), seed) for seed in (7, 7, 8)]
    assert decisions[0] == decisions[1]
    assert decisions[0].verdicts != decisions[2].verdicts


def test_no_gate_changes_the_verdict_of_another() -> None:
    together = judge_all(GATES, model(1), model(2), seed=7).verdicts
    assert [judge(gate, model(1), model(2), seed=7) for gate in GATES] == list(together)


def test_judging_leaves_the_scores_alone() -> None:
    candidate, champion = model(1), model(2)
    judge_all(GATES, candidate, champion, seed=0)
    for scores, seed in ((candidate, 1), (champion, 2)):
        for name, values in model(seed).test.items():
            np.testing.assert_array_equal(scores.test[name], values)


def test_a_decision_is_a_table_that_a_person_reads() -> None:
    champion = model(clients={"a": {"accuracy": [1, 1]}})
    candidate = model(clients={"a": {"accuracy": [1, 0]}})
    decision = judge_all((WorstClient(metric="accuracy", by=0.1), Size(megabytes=2.5)), candidate, champion, seed=0)
    assert decision.as_markdown() == (
        "| gate | verdict | measured | allowed | reason |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| worst_client accuracy | refused | a: 0.5 worse | at most 0.1 worse"
        " | accuracy of a is worse than allowed |\n"
        "| size | passed | 2 MB | at most 2.5 MB | size is within the limit |"
    )


def test_a_clients_name_cannot_break_the_table() -> None:
    strange = model(clients={"a|b\nc": {"accuracy": [1, 1]}})
    table = judge_all((WorstClient(metric="accuracy", by=0),), strange, strange, seed=0).as_markdown()
    assert len(table.splitlines()) == 3
    assert r"a\|b c" in table


# The settings of a plan


def test_a_promotion_asks_for_nothing_unless_told() -> None:
    assert Promotion() == Promotion(gates=(), approval=False)


def test_a_promotion_reads_its_gates_by_kind_and_survives_the_journey_through_json() -> None:
    promotion = Promotion(gates=GATES, approval=True)
    assert Promotion.model_validate_json(promotion.model_dump_json()) == promotion
    written = {"gates": [{"kind": "schema"}, {"kind": "not_worse", "metric": "accuracy", "by": 0.01}]}
    assert Promotion.model_validate(written).gates == (Schema(), NotWorse(metric="accuracy", by=0.01))


def test_a_gate_that_stands_twice_is_refused_and_two_metrics_are_two_gates() -> None:
    gates = (Size(megabytes=1), NotWorse(metric="loss", by=0), Size(megabytes=2), NotWorse(metric="loss", by=1))
    with pytest.raises(ValidationError, match="expected each gate once, got not_worse loss, size more than once"):
        Promotion(gates=gates)
    assert len(Promotion(gates=(NotWorse(metric="loss", by=0), NotWorse(metric="accuracy", by=0))).gates) == 2


def test_a_wrong_kind_lists_the_legal_ones_and_a_wrong_metric_too() -> None:
    with pytest.raises(ValidationError, match="'at_least', 'at_most', 'not_worse', 'worst_client', 'epsilon'"):
        TypeAdapter(AnyGate).validate_python({"kind": "beautiful"})
    with pytest.raises(ValidationError, match="'accuracy', 'loss' or 'mae'"):
        NotWorse(metric="f1", by=0)


def test_a_form_offers_each_gate_by_name() -> None:
    items = Promotion.model_json_schema()["properties"]["gates"]["items"]
    assert len(items["anyOf"]) == 8
