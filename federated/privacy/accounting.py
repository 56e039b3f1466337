"""What releases cost together: epsilon, by two accountants of ``dp_accounting``, which is imported when it counts.

All of it is (ε, δ)-differential privacy where neighbours differ in one unit: added or removed, or zeros in the place of
what it sends. Which of these, and what both together mean, is in ``federated.privacy.neighbours``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from federated.errors import PlanError
from federated.privacy.releases import Release

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

RELATION = "add_or_remove_one"
"""How neighbouring data differ for who asks of sampling, as the calculator does."""

COARSE = 1e-3
"""How finely a ledger counts: its ε is rounded up by less than 0.001, in a fifth of the time."""

_WHOLE = (*range(2, 65), *range(72, 257, 8), 512, 1024)  # orders
_MOST = 2**30
_PART = 1e-4  # to which a noise multiplier is found


class SelfComposed(NamedTuple):
    """The same release, so many times."""

    release: Release
    times: int


class Epsilon(NamedTuple):
    """ε by privacy loss distributions, which is tight, and by Rényi divergences, which cross-checks it.

    ``pld`` is None where it knows no such release. Infinite is no privacy at all.
    """

    pld: float | None
    rdp: float | None

    @property
    def best(self) -> float:
        """The one to go by."""
        return next(found for found in (self.pld, self.rdp) if found is not None)  # one of them knows every release

    def as_json(self) -> dict[str, float | str | None]:
        """As plain values; an infinite one is the word ``infinite``, which JSON has no number for."""
        return {name: "infinite" if value == math.inf else value for name, value in self._asdict().items()}


def epsilon(spent: Iterable[SelfComposed], delta: float) -> Epsilon:
    """What the releases cost together; 0 for none.

    Its time does not grow with the counts, but with the number of different releases.
    """
    runs = tuple(merged(spent))
    return Epsilon(_counted("pld", runs, delta), _counted("rdp", runs, delta))


def merged(spent: Iterable[SelfComposed]) -> list[SelfComposed]:
    """Equal releases together, in one order: what they cost does not depend on it."""
    counts: dict[Release, int] = {}
    for release, times in spent:
        counts[release] = counts.get(release, 0) + times
    return [SelfComposed(release, times) for release, times in sorted(counts.items(), key=repr) if times]


def affordable(
    release: Release, budget: float, delta: float, spent: Sequence[SelfComposed] = (), interval: float = 0.0
) -> int:
    """How often ``release`` fits into ``budget``, after what is spent; 0 where not once.

    At most 2³⁰, which is returned for what costs next to nothing. ``interval`` is as for ``tight``.
    """

    def fits(epsilon_of: _Accounts, count: int) -> bool:
        return epsilon_of([*spent, SelfComposed(release, count)], delta) <= budget

    return _last(partial(fits, partial(tight, interval=interval)), likely=_last(partial(fits, _quick)))


def calibrated(
    release: Callable[[float], Release],
    count: int,
    target: float,
    delta: float,
    spent: Sequence[SelfComposed] = (),
) -> float:
    """The least noise multiplier, to 10⁻⁴, with which ``count`` releases after what is spent cost at most ``target``.

    Raises:
        PlanError: no noise is enough.
    """

    def exceeds(epsilon_of: _Accounts, parts: int) -> bool:
        return epsilon_of([*spent, SelfComposed(release(parts * _PART), count)], delta) > target

    by_rdp = _last(partial(exceeds, _quick))
    parts = _last(partial(exceeds, tight), likely=by_rdp * 7 // 8) + 1
    if parts > _MOST:
        before = f"; {tight(spent, delta):.4g} is spent already" if spent else ""
        raise PlanError(f"no noise is enough for epsilon {target:g} after {count:,} rounds at delta {delta:g}{before}")
    return parts * _PART


_Accounts = Callable[[Sequence[SelfComposed], float], float]


def tight(spent: Sequence[SelfComposed], delta: float, interval: float = 0.0) -> float:
    """The best ε alone, without its cross-check; counted no more finely than by an ``interval``."""
    runs = tuple(merged(spent))
    found = _counted("pld", runs, delta, interval)
    if found is None:
        found = _counted("rdp", runs, delta)
    return math.inf if found is None else found


def _quick(spent: Sequence[SelfComposed], delta: float) -> float:
    """By Rényi divergences alone, which overstate, of what resembles it: to begin a search with."""
    found = _counted("rdp", tuple(merged(SelfComposed(run.release.resembling(), run.times) for run in spent)), delta)
    return math.inf if found is None else found


def _last(holds: Callable[[int], bool], likely: int = 0) -> int:
    """The largest number up to 2³⁰ for which it holds, if it holds for every smaller one; 0 is not asked.

    From a ``likely`` answer, which had better be too small, steps grow until they are too far, and are then halved.
    """
    low = likely
    while low and not holds(low):
        low //= 2
    step = max(1, low // 64)
    while low < _MOST and holds(min(low + step, _MOST)):
        low, step = min(low + step, _MOST), 2 * step
    high = low + step
    while low < _MOST and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@lru_cache(maxsize=1024)
def _counted(
    by: Literal["pld", "rdp"], runs: tuple[SelfComposed, ...], delta: float, interval: float = 0.0
) -> float | None:
    """None where the accountant knows no such release."""
    if not all(release.noised for release, _ in runs):
        return math.inf
    found = _by_losses(runs, delta, interval) if by == "pld" else _by_divergences(runs, delta)
    return math.inf if found is not None and math.isnan(found) else found


def _by_losses(runs: Sequence[SelfComposed], delta: float, interval: float) -> float | None:
    interval = max((max(release.interval, min(interval, release.coarsest)) for release, _ in runs), default=1.0)
    composed: PrivacyLossDistribution | None = None
    for release, times in runs:
        losses = release.losses(times, interval)
        if losses is None:
            return None
        composed = losses if composed is None else composed.compose(losses)
    return 0.0 if composed is None else float(composed.get_epsilon_for_delta(delta))


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
