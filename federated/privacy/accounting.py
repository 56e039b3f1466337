"""What releases cost together: epsilon, by privacy loss distributions and by Rényi divergences.

``dp_accounting`` knows both of each release, and is imported when something is counted.

All of it is (ε, δ)-differential privacy where neighbours differ in one unit: added or removed, or zeros in the place of
what it sends. Which of these, and what both together mean, is in ``federated.privacy.neighbours``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Literal, NamedTuple

from federated.privacy.losses import epsilon_of
from federated.privacy.releases import Release

COARSE = 8
"""How many times as coarsely a ledger counts: in a tenth of the time, and up by less than a thousandth of ε."""

MOST = 2**30
"""Of releases that are looked for: more are as good as any number."""

_WHOLE = (*range(2, 65), *range(72, 257, 8), 512, 1024)  # orders
_PART = 1e-4  # to which a noise multiplier is found
_SMALL = 0.01  # losses that deviate by less are counted as much more finely
_LONG = 30.0  # losses that lie further apart are counted as much more coarsely: 300,000 numbers
_COARSEST = 0.1  # of a deviation: to count more coarsely would cost much
_HUGE = 500.0  # an interval of which e to its power is hardly a number


class SelfComposed(NamedTuple):
    """The same release, so many times."""

    release: Release
    times: int


class Epsilon(NamedTuple):
    """ε by privacy loss distributions, which is tight, and by Rényi divergences, which cross-checks it.

    Both bound it from above; of a billion releases the second may be the lower one. One is None where it knows no such
    release. Infinite is no privacy at all.
    """

    pld: float | None
    rdp: float | None

    @property
    def best(self) -> float:
        """The one to go by: the first that is a number."""
        known = [found for found in (self.pld, self.rdp) if found is not None]
        return next((found for found in known if found < math.inf), math.inf)

    def as_json(self) -> dict[str, float | str | None]:
        """As plain values; an infinite one is the word ``infinite``, which JSON has no number for."""
        return {name: "infinite" if value == math.inf else value for name, value in self._asdict().items()}


def epsilon(spent: Iterable[SelfComposed], delta: float) -> Epsilon:
    """What the releases cost together; 0 for none.

    Its time does not grow with the counts, but with the number of different releases.
    """
    runs = tuple(merged(spent))
    return Epsilon(_counted("pld", runs, delta, 1), _counted("rdp", runs, delta, 1))


def merged(spent: Iterable[SelfComposed]) -> list[SelfComposed]:
    """Equal releases together, in one order: what they cost does not depend on it."""
    counts: dict[Release, int] = {}
    for release, times in spent:
        counts[release] = counts.get(release, 0) + times
    return [SelfComposed(release, times) for release, times in sorted(counts.items(), key=repr) if times]


def within(spent: Sequence[SelfComposed], delta: float, budget: float) -> bool:
    """Whether it costs no more than ``budget``; counted finely only where that could change the answer."""
    return tight(spent, delta, COARSE) <= budget or tight(spent, delta) <= budget


def affordable(release: Release, budget: float, delta: float, spent: Sequence[SelfComposed] = ()) -> int:
    """How often ``release`` fits into ``budget``, after what is spent; 0 where not once.

    At most 2³⁰, which is returned for what costs next to nothing.
    """

    def after(count: int) -> list[SelfComposed]:
        return [*spent, SelfComposed(release, count)]

    likely = _last(lambda count: _quick(after(count), delta) <= budget)
    rough = _last(lambda count: tight(after(count), delta, COARSE) <= budget, likely)
    return _last(lambda count: within(after(count), delta, budget), rough, part=1024)


def calibrated(
    release: Callable[[float], Release],
    count: int,
    target: float,
    delta: float,
    spent: Sequence[SelfComposed] = (),
) -> float | None:
    """The least noise multiplier, to 10⁻⁴, with which ``count`` releases after what is spent cost at most ``target``.

    None where no noise is enough.
    """

    def exceeds(account: _Accounts, parts: int) -> bool:
        return account([*spent, SelfComposed(release(parts * _PART), count)], delta) > target

    by_rdp = _last(partial(exceeds, _quick))
    parts = _last(partial(exceeds, tight), likely=by_rdp * 7 // 8) + 1
    return None if parts > MOST else parts * _PART


_Accounts = Callable[[Sequence[SelfComposed], float], float]


def tight(spent: Sequence[SelfComposed], delta: float, coarser: int = 1) -> float:
    """The best ε alone, without its cross-check; rounded up, where it is counted so much ``coarser``."""
    runs = tuple(merged(spent))
    found = _counted("pld", runs, delta, coarser)
    if found is None or found == math.inf:
        return Epsilon(found, _counted("rdp", runs, delta, 1)).best
    return found


def _quick(spent: Sequence[SelfComposed], delta: float) -> float:
    """By Rényi divergences alone, which overstate, of what resembles it: to begin a search with."""
    found = _counted("rdp", tuple(merged(SelfComposed(run.release.resembling(), run.times) for run in spent)), delta, 1)
    return math.inf if found is None else found


def _last(holds: Callable[[int], bool], likely: int = 0, part: int = 64) -> int:
    """The largest number up to 2³⁰ for which it holds, if it holds for every smaller one; 0 is not asked.

    From a ``likely`` answer, which had better be too small, steps of a ``part`` of it grow until they are too far, and
    are then halved.
    """
    low = likely
    while low and not holds(low):
        low //= 2
    step = max(1, low // part)
    while low < MOST and holds(min(low + step, MOST)):
        low, step = min(low + step, MOST), 2 * step
    high = low + step
    while low < MOST and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@lru_cache(maxsize=1024)
def _counted(by: Literal["pld", "rdp"], runs: tuple[SelfComposed, ...], delta: float, coarser: int) -> float | None:
    """None where the accountant knows no such release."""
    if not all(release.noised for release, _ in runs):
        return math.inf
    found = _by_losses(runs, delta, coarser) if by == "pld" else _by_divergences(runs, delta)
    return math.inf if found is not None and math.isnan(found) else found


def _by_losses(runs: Sequence[SelfComposed], delta: float, coarser: int) -> float | None:
    if not runs:
        return 0.0
    together = [SelfComposed(*part) for release, times in runs for part in release.together(times)]
    interval = _interval(together, coarser)
    while interval <= _HUGE:
        parts = [(release.losses(interval), times) for release, times in together]
        known = [(losses, times) for losses, times in parts if losses is not None]
        if len(known) < len(parts):
            return None
        found = epsilon_of(known, delta)
        if found is not None:
            return found
        interval *= 2
    return None


def _interval(runs: Sequence[SelfComposed], coarser: int) -> float:
    """How finely losses are counted: as finely as they are small, and so that their count fits into memory.

    Rounded to a power of two of the usual one, so that the losses of a release are remembered from round to round.
    """
    square = sum(times * release.deviation**2 for release, times in runs)
    deviation = math.sqrt(square / sum(times for _, times in runs))
    reach = sum(release.reach(times) for release, times in runs)
    usual = max(release.interval for release, _ in runs)
    fine = usual * 2.0 ** round(math.log2(max(min(1.0, deviation / _SMALL), reach / _LONG)))
    return fine * 2.0 ** math.floor(math.log2(min(max(_COARSEST * deviation / fine, 1.0), coarser)))


def _by_divergences(runs: Sequence[SelfComposed], delta: float) -> float | None:
    from dp_accounting import UnsupportedEventError
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(_WHOLE if any(release.whole_orders for release, _ in runs) else None)
    try:
        with _silent():
            for release, times in runs:
                accountant.compose(release.event(), times)
            return float(accountant.get_epsilon(delta))
    except UnsupportedEventError:
        return None


@contextmanager
def _silent() -> Iterator[None]:
    """Without the library's warnings of orders that it leaves out, which cost nothing but tightness."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
