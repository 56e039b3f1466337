"""Who holds which rows, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from roundhouse.holdings import Holding, Holdings

_MOST_CLIENTS = 60
_MOST_CLASSES = 20  # with a column each
_FREQUENT = 10  # classes that are named where there are more than that


def described(found: Holdings, width: int) -> Iterator[Table | str]:
    """The table and what is to say below it, to print in ``width`` columns."""
    yield _table(found, _columns(found, width))
    yield ""
    yield f"the server holds out     {found.test_rows:,} rows to test on, {found.validation_rows:,} to validate"
    yield f"rows to train on         {_least_to_most(found, 'rows')}"
    if found.together.classes is None:
        share = found.differences["between_clients"]
        yield f"between clients          {share:.3f} of the target's variance"
    else:
        yield f"classes                  {_least_to_most(found, 'classes')}"
        distance = found.differences["label_distance"]
        if len(found.together.classes) > _MOST_CLASSES:
            yield f"most frequent            {_most_frequent(found.together.classes)}"
        yield f"label distance           {distance:.3f}, from all together: 0 is alike, 1 is nothing in common"


def _least_to_most(found: Holdings, name: str) -> str:
    least, median, most = (found.differences[f"{name}_{which}"] for which in ("least", "median", "most"))
    return f"{least:,.0f} to {most:,.0f} a client, median {median:,.0f}"


def _most_frequent(classes: Mapping[str, int]) -> str:
    rows = sum(classes.values())
    named = sorted(classes, key=classes.__getitem__, reverse=True)[:_FREQUENT]
    return ", ".join(f"{_shown(label)} {100 * classes[label] / rows:.1f} %" for label in named)


def _shown(label: str) -> str:
    """A label; one that cannot be seen, such as a space, in quotes."""
    return label if label.isprintable() and label.strip() else repr(label)


def _columns(found: Holdings, width: int) -> list[str]:
    """Headings right of the rows; a column a class where these are few and fit."""
    if found.together.classes is None:
        return ["target, mean", "± sd"]
    taken = max(len(holding.client) for holding in found.clients[:_MOST_CLIENTS]) + 2 * len(" 100,000")
    wanted = [max(len(_shown(label)), len(str(count))) + 1 for label, count in found.together.classes.items()]
    few = len(wanted) <= _MOST_CLASSES and taken + sum(wanted) <= width
    return list(found.together.classes) if few else ["classes", "largest", "its share"]


def _table(found: Holdings, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("client", no_wrap=True)
    for heading in ("train", "test", *columns):
        table.add_column(escape(_shown(heading)), justify="right", no_wrap=True)
    for holding in found.clients[:_MOST_CLIENTS]:
        table.add_row(*_line(holding, columns))
    if len(found.clients) > _MOST_CLIENTS:
        table.add_row(f"… and {len(found.clients) - _MOST_CLIENTS:,} more")
    table.add_row(*_line(found.together, columns))
    return table


def _line(holding: Holding, columns: Sequence[str]) -> list[str]:
    rows = (f"{holding.train_rows:,}", f"{holding.test_rows:,}")
    return [escape(cell) for cell in (holding.client, *rows, *_cells(holding, columns))]


def _cells(holding: Holding, columns: Sequence[str]) -> list[str]:
    if holding.classes is None:
        return [f"{holding.target_mean:.4g}", f"{holding.target_sd:.3g}"]
    if columns == list(holding.classes):
        return [str(count or "·") for count in holding.classes.values()]
    largest = max(holding.classes, key=holding.classes.__getitem__)
    held = sum(count > 0 for count in holding.classes.values())
    return [str(held), _shown(largest), f"{holding.classes[largest] / holding.train_rows:.2f}"]
