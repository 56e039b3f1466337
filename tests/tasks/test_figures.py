"""What a reader finds in a training's pictures."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from tasks import figures
from tasks.training import RoundReport

MEANS = "one client, added or removed; delta 1e-05; Poisson sampling at 0.2"


@pytest.mark.parametrize("budget", [10.0, None])
def test_the_privacy_curve_says_what_its_epsilon_is_of_and_where_it_ends(
    budget: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[Figure]()
    monkeypatch.setattr(figures, "png", lambda figure: drawn.append(figure) or b"")
    spent = {1: 2.4, 2: 2.9, 4: 3.6}  # the third round released nothing
    reports = [RoundReport(n, (), (), {"epsilon": spent[n]} if n in spent else {}, (), {}) for n in range(1, 5)]
    figures.epsilon_by_round(reports, MEANS, budget)
    (figure,) = drawn
    (axes,) = figure.axes
    assert MEANS in figure.get_suptitle()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("round", "epsilon")
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["spent so far", "budget"][: 1 if budget is None else 2]
    assert lines["spent so far"].get_xydata().tolist() == [list(point) for point in spent.items()]
    low, high = axes.get_ylim()
    assert low == 0
    if budget is not None:
        assert list(lines["budget"].get_ydata()) == [budget, budget]
        assert high > budget
