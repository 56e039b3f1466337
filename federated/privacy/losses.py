"""Privacy loss distributions: composed by one Fourier transform, and the ε in them.

What one release loses, ``dp_accounting`` tells. It is composed as there (Koskela, Jälkö, Honkela 2020), with Chernoff's
bounds on how far losses reach. Moments that these need are kept, for a training asks after every round; and their
orders are chosen anew for each number of releases, so that the bounds are tight for very many, too.
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
_LONGEST = 2**22  # places: a hundred megabytes or two
_HEAVIEST = 2.0  # a mass of losses that is rounded up for each release is somewhat more than 1
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

        For ε up to the loss lᵢ and above the one before, the divergence is Σ pⱼ - e^ε Σ pⱼ e^-lⱼ, over j ≥ i and
        with what is infinite in the first sum.
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

    None where the sum of losses has too many places, or no probabilities: what the library gives for one release of
    very rarely sampled units is no distribution.
    """
    times = [count for _, count in parts]
    directions = dict.fromkeys(zip(*(one for one, _ in parts), strict=True))
    composed = [_composed(list(zip(one, times, strict=True))) for one in directions]
    known = [one.epsilon(delta) for one in composed if one is not None]
    return max(known) if len(known) == len(composed) else None


def _read(found: PLDPmf) -> LossDistribution:
    dense = found.to_dense_pmf()
    return LossDistribution(dense._lower_loss, np.asarray(dense._probs), dense._infinity_mass, dense._discretization)


_Parts = Sequence[tuple[LossDistribution, int]]


def _composed(parts: _Parts) -> LossDistribution | None:
    low, high = _ends(parts)
    length = _quick_length(max(high - low + 1, *(len(one.probs) for one, _ in parts)))
    if length > _LONGEST:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        spectrum = math.prod(_power(np.fft.rfft(one.probs, length), times) for one, times in parts)
        around = np.fft.irfft(spectrum, length)  # what lies beyond the length begins again at its beginning
    probs = np.roll(around, -low)[: high - low + 1]
    mass = float(probs.sum())
    if not mass < _HEAVIEST:
        return None
    infinite = -math.expm1(sum(times * math.log1p(-one.infinite) for one, times in parts))
    first = low + sum(times * one.first for one, times in parts)
    unknown = max(infinite, 1.0 - mass) + _LEFT_OUT + _ROUNDING * sum(times for _, times in parts)
    return LossDistribution(first, probs, unknown, parts[0][0].interval)


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
    for step in (-1, 1):  # the bound has one least value
        while (further := bound(halves + step)) < least - 1:
            halves, least = halves + step, further
    return math.ceil(least)


def _power(numbers: NDArray[np.complex128], times: int) -> NDArray[np.complex128]:
    """By squaring: several times as fast as NumPy's own of complex numbers."""
    found = numbers
    for digit in f"{times:b}"[1:]:
        found = found * found * numbers if digit == "1" else found * found
    return found


def _quick_length(least: int) -> int:
    return min(small << max(0, math.ceil(math.log2(least / small))) for small in _QUICK)
