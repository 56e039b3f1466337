"""Privacy loss distributions: composed by one Fourier transform, and the ε in them.

What one release loses, ``dp_accounting`` tells. It is composed as there (Koskela, Jälkö, Honkela 2020), with Chernoff's
bounds on how far losses reach. What does not depend on how often is kept, for a training asks every round; and the
orders of these bounds follow from how often, so that they are tight for very many, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dp_accounting.pld.pld_pmf import PLDPmf
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

_LEFT_OUT = 1e-15  # the probability of losses that are taken for infinite
_ROUNDING = 2.0**-52  # what a transform may get wrong in all, for each release: measured, and doubled
_QUICK = (1, 3, 5, 9, 15)  # times a power of two: lengths of quick transforms
_WIDEST = 600.0  # e to the power of which is still a number


class LossDistribution:
    """``probs[i]`` is the probability of the loss (``first`` + i) · ``interval``, ``infinite`` of an infinite one."""

    def __init__(self, first: int, probs: NDArray[np.float64], infinite: float, interval: float) -> None:
        self.first, self.probs, self.infinite, self.interval = first, probs, infinite, interval
        self._log_moments: dict[float, float] = {}

    @cached_property
    def variance(self) -> float:
        """In intervals, squared."""
        places = np.arange(len(self.probs))
        return float(self.probs @ (places - self.probs @ places) ** 2)

    @cached_property
    def _log_probs(self) -> NDArray[np.float64]:
        with np.errstate(divide="ignore"):
            return np.log(self.probs)

    def log_moment(self, order: float) -> float:
        """log E exp(``order`` · i), i being the place in ``probs``."""
        if order not in self._log_moments:
            exponents = self._log_probs + order * np.arange(len(self.probs))
            most = float(exponents.max())
            self._log_moments[order] = math.log(float(np.exp(exponents - most).sum())) + most
        return self._log_moments[order]

    def epsilon(self, delta: float) -> float:
        """The least ε at which the hockey-stick divergence is at most ``delta``; infinite where it never is.

        From one loss to the next, it is the mass of the larger ones less e^ε times that of the same under the other
        data, which is e^-loss times as much of each.
        """
        if self.infinite > delta:
            return math.inf
        mass = self.infinite + np.cumsum(self.probs[::-1])[::-1]
        end = int(np.searchsorted(-mass, -delta))  # from here on there is too little
        begin = max(0, end - int(_WIDEST / self.interval))
        mass, losses = mass[begin:], self.interval * (np.arange(begin, len(mass)) - end)
        others = np.cumsum((self.probs[begin:] * np.exp(-losses))[::-1])[::-1]
        divergence = mass - np.exp(np.minimum(losses, 0.0)) * others
        divergence[-1] = self.infinite
        place = int(np.argmax(divergence <= delta))
        from_end = losses[place] if mass[place] <= delta else math.log((mass[place] - delta) / others[place])
        return max(0.0, float(from_end) + (self.first + end) * self.interval)


class Losses(NamedTuple):
    """What a release loses where a unit is removed, and where one is added."""

    removed: LossDistribution
    added: LossDistribution


def losses_of(found: PrivacyLossDistribution) -> Losses:
    """The library's, of a single release."""
    removed = _read(found._pmf_remove)
    return Losses(removed, removed if found._symmetric else _read(found._pmf_add))


def epsilon_of(parts: Sequence[tuple[Losses, int]], delta: float) -> float | None:
    """The ε of all of these, so many times each: the larger of both directions. Intervals must be the same.

    None where ``delta`` is lost in rounding: so many are not counted in this way.
    """
    times = [count for _, count in parts]
    if sum(times) * _ROUNDING > delta / 2:
        return None
    directions = dict.fromkeys(zip(*(one for one, _ in parts), strict=True))
    return max(_composed(list(zip(one, times, strict=True))).epsilon(delta) for one in directions)


def _read(found: PLDPmf) -> LossDistribution:
    dense = found.to_dense_pmf()
    return LossDistribution(dense._lower_loss, np.asarray(dense._probs), dense._infinity_mass, dense._discretization)


_Parts = Sequence[tuple[LossDistribution, int]]


def _composed(parts: _Parts) -> LossDistribution:
    low, high = _ends(parts)
    length = _quick_length(max(high - low + 1, *(len(one.probs) for one, _ in parts)))
    spectrum = math.prod(_power(np.fft.rfft(one.probs, length), times) for one, times in parts)
    around = np.fft.irfft(spectrum, length)  # what lies beyond the length begins again at its beginning
    first = low + sum(times * one.first for one, times in parts)
    finite = sum(times * math.log1p(-one.infinite) for one, times in parts)
    unknown = _LEFT_OUT + _ROUNDING * sum(times for _, times in parts)
    return LossDistribution(
        first, np.roll(around, -low)[: high - low + 1], unknown - math.expm1(finite), parts[0][0].interval
    )


def _ends(parts: _Parts) -> tuple[int, int]:
    """The first and the last place of a sum of losses; beyond both has at most the probability ``_LEFT_OUT``."""
    last = sum(times * (len(one.probs) - 1) for one, times in parts)
    return max(0, -_reach(parts, -1.0)), min(last, _reach(parts, 1.0))


def _reach(parts: _Parts, sign: float) -> int:
    """How far upwards, or downwards, by Chernoff's bound: of orders near that which is the best for a Gaussian."""
    beyond = math.log(2 / _LEFT_OUT)

    def bound(halves: int) -> float:
        order = math.exp2(halves / 2)
        return (sum(times * one.log_moment(sign * order) for one, times in parts) + beyond) / order

    variance = max(sum(times * one.variance for one, times in parts), 1.0)
    halves = round(math.log2(2 * beyond / variance))
    least = bound(halves)
    for step in (-1, 1):
        while (further := bound(halves + step)) < least - 1:
            halves, least = halves + step, further
    return math.ceil(least)


def _power(numbers: NDArray[np.complex128], times: int) -> NDArray[np.complex128]:
    """By squaring: several times as fast as NumPy's own of complex numbers."""
    found = np.ones_like(numbers)
    while times:
        if times % 2:
            found = found * numbers
        numbers, times = numbers * numbers, times // 2
    return found


def _quick_length(least: int) -> int:
    return min(small << max(0, math.ceil(math.log2(least / small))) for small in _QUICK)
