"""When a training ends before its last round, and why it says it did."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from federated.stopping import Stop


def reason(stop: Stop, *values: float, seconds: float = 0.0):
    return stop.reason([{stop.metric: value, "other": 0.0} for value in values], seconds)


def test_without_conditions_a_training_goes_on() -> None:
    assert reason(Stop(), 1.0, 2.0, float("nan"), seconds=1e9) is None


@pytest.mark.parametrize(
    ("stop", "short", "there"),
    [
        (Stop(metric="loss", at_most=0.5), 0.51, 0.5),
        (Stop(metric="mae", at_most=0.0), 0.01, 0.0),
        (Stop(metric="accuracy", at_least=0.9), 0.89, 0.9),
        (Stop(metric="accuracy", at_least=0.0), -0.1, 0.0),
    ],
    ids=repr,
)
def test_a_target_is_reached_from_its_own_side(stop, short, there) -> None:
    assert reason(stop, short) is None
    assert reason(stop, short, there) == "target"


def test_only_the_last_round_can_be_at_the_target() -> None:
    assert reason(Stop(metric="loss", at_most=0.5), 0.4, 0.6) is None


def test_nothing_is_reached_before_the_first_round() -> None:
    assert reason(Stop(metric="loss", at_most=1e9, patience=1)) is None


@pytest.mark.parametrize("metric", ["loss", "mae"])
def test_at_least_is_refused_where_smaller_is_better(metric) -> None:
    with pytest.raises(ValidationError, match=f"smaller is better for {metric}: use at_most"):
        Stop(metric=metric, at_least=0.5)


def test_at_most_is_refused_where_larger_is_better() -> None:
    with pytest.raises(ValidationError, match="larger is better for accuracy: use at_least"):
        Stop(metric="accuracy", at_most=0.5)


@pytest.mark.parametrize(
    ("metric", "values"),
    [("loss", (3.0, 2.0, 2.5, 2.0)), ("accuracy", (0.3, 0.5, 0.4, 0.5))],
)
def test_patience_ends_after_that_many_rounds_without_a_new_best(metric, values) -> None:
    stop = Stop(metric=metric, patience=2)
    assert [reason(stop, *values[: n + 1]) for n in range(4)] == [None, None, None, "patience"]


def test_a_new_best_renews_patience() -> None:
    assert reason(Stop(patience=2), 3.0, 4.0, 2.9, 4.0) is None
    assert reason(Stop(patience=2), 3.0, 4.0, 2.9, 4.0, 4.0) == "patience"


def test_a_gain_within_min_delta_is_no_new_best() -> None:
    stop = Stop(patience=2, min_delta=0.25)
    assert reason(stop, 3.0, 2.8, 2.76) == "patience"
    assert reason(stop, 3.0, 2.8, 2.5) is None
    assert reason(Stop(metric="accuracy", patience=1, min_delta=0.25), 0.5, 0.75) == "patience"
    assert reason(Stop(metric="accuracy", patience=1, min_delta=0.25), 0.5, 0.76) is None


def test_small_gains_add_up_to_a_new_best_as_in_keras() -> None:
    losses = [1.0 - 0.06 * turn for turn in range(10)]
    assert reason(Stop(patience=3, min_delta=0.1), *losses) is None


def test_minutes_are_wall_clock_time() -> None:
    stop = Stop(minutes=2)
    assert reason(stop, 1.0, seconds=119.9) is None
    assert reason(stop, 1.0, seconds=120.0) == "minutes"


def test_the_target_is_the_first_reason_and_time_the_last() -> None:
    stop = Stop(at_most=1.0, patience=1, minutes=1)
    assert reason(stop, 0.9, 1.0, seconds=99) == "target"
    assert reason(stop, 1.1, 1.2, seconds=99) == "patience"
    assert reason(stop, 1.2, 1.1, seconds=99) == "minutes"


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_nan_is_never_a_target_nor_a_new_best(metric) -> None:
    nan = float("nan")
    aim = {"at_most": 1.0} if metric == "loss" else {"at_least": 0.0}
    assert reason(Stop(metric=metric, **aim), nan) is None
    assert reason(Stop(metric=metric, patience=2), nan, nan) == "patience"
    assert reason(Stop(metric=metric, patience=2), 0.5, nan, nan) == "patience"
    assert reason(Stop(metric=metric, patience=2), nan, 0.5, nan) is None


def test_only_rounds_that_were_evaluated_count() -> None:
    nothing, stop = {"train_loss": 0.0}, Stop(patience=2)
    history = [nothing, {"loss": 1.0}, nothing, {"loss": 2.0}, nothing, nothing, {"loss": 3.0}]
    assert [stop.reason(history[: n + 1], 0.0) for n in range(7)] == [None] * 6 + ["patience"]
    assert Stop(at_most=1.5).reason([nothing], 0.0) is None


def test_a_round_that_was_not_evaluated_is_stopped_at_by_time_only() -> None:
    history = [{"loss": 0.1}, {"train_loss": 0.0}]
    assert Stop(at_most=0.5, patience=1).reason(history, 0.0) is None
    assert Stop(at_most=0.5, minutes=1).reason(history, 60.0) == "minutes"


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"minutes": 0}, {"min_delta": -1}, {"metric": "auc"}], ids=repr)
def test_conditions_that_make_no_sense_are_refused(wrong) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Stop(**wrong)
