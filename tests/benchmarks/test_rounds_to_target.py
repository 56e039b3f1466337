"""Rounds to a target, and the search for the learning rate, against examples worked by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.reproductions.curves import Curve, rounds_to
from benchmarks.reproductions.sweep import Wanted, best, next_run, place_of, rate


def test_rounds_between_two_points_lie_on_a_straight_line() -> None:
    assert rounds_to(0.85, [0.1, 0.5, 0.8, 0.9]) == pytest.approx(2.5)
    assert rounds_to(0.3, [0.1, 0.5]) == pytest.approx(0.5)


def test_a_curve_that_falls_counts_by_its_best() -> None:
    """0.8 in round 1 stays the best until round 4, so that the line to 0.9 begins in round 3."""
    assert rounds_to(0.85, [0.1, 0.8, 0.6, 0.7, 0.9]) == pytest.approx(3.5)


def test_a_point_at_the_target_has_reached_it() -> None:
    assert rounds_to(0.85, [0.1, 0.85, 0.9]) == pytest.approx(1.0)
    assert rounds_to(0.85, [0.85, 0.2]) == 0.0


def test_later_points_change_nothing() -> None:
    curve = [0.1, 0.4, 0.3, 0.7, 0.65, 0.8]
    assert rounds_to(0.6, curve) == rounds_to(0.6, curve[:4])


def test_a_curve_below_the_target_has_no_rounds() -> None:
    assert rounds_to(0.85, [0.1, 0.84, 0.849]) is None


def test_the_grid_has_three_rates_a_decade() -> None:
    assert [rate(place) for place in range(-6, 2)] == [0.01, 0.0215, 0.0464, 0.1, 0.215, 0.464, 1.0, 2.15]
    assert [place_of(rate(place)) for place in range(-12, 5)] == list(range(-12, 5))


def reaching(rounds: float) -> Curve:
    """A curve that crosses 0.85 after so many rounds."""
    whole = math.ceil(rounds)
    below = (0.85 - 0.9 * (rounds - whole + 1)) / (whole - rounds)
    return Curve((0.1, *[below] * (whole - 1), 0.9))


def searched(needed: dict[int, float], start: int, most: int) -> tuple[dict[int, Curve], list[Wanted]]:
    """A whole search over curves that need so many rounds each; any other never gets there."""
    tried, runs = dict[int, Curve](), list[Wanted]()
    while (wanted := next_run(0.85, tried, start, most)) is not None:
        runs.append(wanted)
        rounds = needed.get(wanted.place, math.inf)
        flat = Curve((0.1,) * (wanted.limit + 1))
        tried[wanted.place] = reaching(rounds) if math.ceil(min(rounds, 1e9)) <= wanted.limit else flat
    return tried, runs


def test_the_best_rate_ends_in_the_middle_of_what_was_tried() -> None:
    tried, runs = searched({-5: 30.5, -4: 20.5, -3: 12.5, -2: 8.5, -1: 9.5}, start=-4, most=100)
    assert best(0.85, tried) == -2
    assert [wanted.place for wanted in runs] == [-4, -5, -3, -2, -1]


def test_no_rate_runs_longer_than_the_best_has_needed() -> None:
    _, runs = searched({-4: 20.5, -3: 12.5}, start=-4, most=100)
    assert runs == [Wanted(-4, 100), Wanted(-5, 21), Wanted(-3, 21), Wanted(-2, 13)]


def test_where_no_rate_reaches_the_target_the_closest_is_in_the_middle() -> None:
    flat = {-4: Curve((0.1, 0.5)), -3: Curve((0.1, 0.7)), -2: Curve((0.1, 0.6))}
    assert best(0.85, flat) == -3
    assert next_run(0.85, flat, start=-4, most=1) is None
    assert next_run(0.85, flat, start=-4, most=2) == Wanted(-4, 2)


def test_a_rate_that_diverged_is_not_tried_again() -> None:
    tried = {-3: reaching(10.5), -2: Curve((0.1, 0.2), diverged=True)}
    assert next_run(0.85, tried, start=-3, most=100) == Wanted(-4, 11)
    assert next_run(0.85, tried | {-4: Curve((0.1,) * 12)}, start=-3, most=100) is None


def test_a_curve_that_was_cut_short_is_run_again() -> None:
    assert next_run(0.85, {-3: Curve((0.1, 0.5, 0.6))}, start=-3, most=100) == Wanted(-3, 100)
