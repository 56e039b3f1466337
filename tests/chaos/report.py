"""The table of a chaos run, and its sums."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tests.chaos.trials import Harm

_HEADINGS = ("killed, or done otherwise", "times", "rounds lost", "duplicates", "seconds to the next round")


def table(harms: Sequence[Harm]) -> str:
    """One line a point, in the order in which they came."""
    rows = [_HEADINGS, *_rows(harms)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return "\n".join(_line(row, widths) for row in rows)


def sums(harms: Sequence[Harm]) -> str:
    """The totals."""
    timed = [harm for harm in harms if harm.seconds is not None]
    lines = [
        f"kills           {sum(harm.was_kill for harm in harms)}",
        f"other faults    {sum(not harm.was_kill for harm in harms)}",
        f"rounds lost     {sum(harm.lost for harm in harms)}",
        f"duplicates      {sum(harm.duplicates for harm in harms)}",
        f"from the restart to the end of the first new round: {_median(timed)} s, the median of {len(timed)}",
        f"  of which importing TensorFlow, beside Prefect's start: {_of_tensorflow(timed)} s",
    ]
    return "\n".join(lines)


def _rows(harms: Sequence[Harm]) -> Iterator[tuple[str, ...]]:
    for what in dict.fromkeys(harm.what for harm in harms):
        same = [harm for harm in harms if harm.what == what]
        lost, twice = sum(harm.lost for harm in same), sum(harm.duplicates for harm in same)
        yield what, str(len(same)), str(lost), str(twice), _median(same)


def _median(harms: Sequence[Harm]) -> str:
    seconds = [harm.seconds for harm in harms if harm.seconds is not None]
    return f"{statistics.median(seconds):.1f}" if seconds else "-"


def _of_tensorflow(harms: Sequence[Harm]) -> str:
    seconds = [harm.tensorflow_seconds for harm in harms if harm.tensorflow_seconds is not None]
    return f"{statistics.median(seconds):.1f}" if seconds else "-"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)])
