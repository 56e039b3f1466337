"""The learning rate's course over the rounds."""

import math

import pytest
from pydantic import ValidationError

from federated.schedules import Constant, Cosine, Exponential, Steps
from tests.federated.families import SCHEDULES

ROUNDS = range(1, 60)
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


@each_schedule
def test_a_factor_is_positive_and_at_most_1(schedule):
    assert all(0 < schedule.factor(number) <= 1 for number in ROUNDS)


@each_schedule
def test_without_a_warm_up_it_begins_at_1_and_never_rises(schedule):
    cold = schedule.model_copy(update={"warmup": 0})
    factors = [cold.factor(number) for number in ROUNDS]
    assert factors[0] == 1
    assert factors == sorted(factors, reverse=True)


@each_schedule
def test_a_warm_up_rises_in_a_line_and_then_changes_nothing(schedule):
    cold, warm = (schedule.model_copy(update={"warmup": rounds}) for rounds in (0, 3))
    assert [warm.factor(number) / cold.factor(number) for number in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1, 1]


def test_constant_is_1():
    assert {Constant().factor(number) for number in ROUNDS} == {1.0}


def test_exponential_decays_after_every_so_many_rounds():
    factors = [Exponential(decay=0.5, every=2).factor(number) for number in (1, 2, 3, 4, 5)]
    assert factors == [1, 1, 0.5, 0.5, 0.25]


def test_cosine_is_halfway_in_the_middle_and_stays_at_its_end():
    schedule = Cosine(rounds=11, end=0.2)
    assert schedule.factor(6) == pytest.approx(0.6)
    assert schedule.factor(3) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 5)) / 2)
    assert schedule.factor(11) == schedule.factor(50) == pytest.approx(0.2)


def test_steps_fall_at_their_rounds():
    assert [Steps(at=(3, 4), factor_each=0.1).factor(number) for number in (2, 3, 4, 9)] == pytest.approx(
        [1, 0.1, 0.01, 0.01]
    )


def test_steps_out_of_order_are_refused():
    with pytest.raises(ValidationError, match="rising order"):
        Steps(at=(4, 4))
