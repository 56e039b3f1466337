"""Series of measurements, as windows of the past with the value that follows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from federated.data import Rows, Split
from federated.sources.sliding import Starts, starts


class Series(NamedTuple):
    """One client's measurements in the order of time: ``inputs`` (times, features) and ``target`` (times,), float32.

    NaN is a missing value. ``jumps`` (times,) is true where the time before is not one step before.
    """

    client: str
    inputs: NDArray[np.float32]
    target: NDArray[np.float32]
    jumps: NDArray[np.bool_]


class Window(NamedTuple):
    """``past`` steps, and the target ``horizon`` steps after the last of them; one begins every ``step`` steps."""

    past: int
    horizon: int
    step: int

    @property
    def span(self) -> int:
        """So many steps lie between its ends, both counted."""
        return self.past + self.horizon


def whole(series: Series, window: Window, test_share: float) -> Starts:
    """Where windows begin that miss no value and cross no jump."""
    everywhere = starts(len(series.target), window.span, window.step, test_share)
    gaps = np.asarray(np.isnan(series.inputs).any(axis=1))
    return Starts(*(first[_is_whole(series, window, gaps, first)] for first in everywhere))


def _is_whole(series: Series, window: Window, gaps: NDArray[np.bool_], first: Rows) -> NDArray[np.bool_]:
    last = first + window.span - 1
    missing = _among(gaps, first, first + window.past) > 0
    jumped = _among(series.jumps, first + 1, last + 1) > 0
    return np.asarray(~(missing | jumped | np.isnan(series.target[last])))


def _among(marks: NDArray[np.bool_], first: Rows, end: Rows) -> NDArray[np.int64]:
    """How many marks there are from each first to before its end."""
    until = np.concatenate([[0], np.cumsum(marks)])
    return np.asarray(until[end] - until[first])


def cut(series: list[Series], begins: list[Rows], window: Window) -> Split:
    """All windows, one client after the other: x (rows, past, features), y (rows,)."""
    rows = sum(map(len, begins))
    x = np.empty((rows, window.past, series[0].inputs.shape[1]), np.float32)
    y, done = np.empty(rows, np.float32), 0
    for one, first in zip(series, begins, strict=True):
        until = done + len(first)
        windows = np.lib.stride_tricks.sliding_window_view(one.inputs, window.past, axis=0)
        x[done:until] = windows[first].swapaxes(1, 2)
        y[done:until] = one.target[first + window.span - 1]
        done = until
    return Split(x, y)
