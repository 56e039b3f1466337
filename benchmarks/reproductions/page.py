"""The page of reproductions, written from the results that are kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import Table
from benchmarks.reproductions import fed_heart, fedavg, published
from benchmarks.reproductions.curves import Curve, rounds_to
from benchmarks.reproductions.kept import Record, makings, read
from benchmarks.reproductions.sweep import best, next_run, rate

FILE = Path(__file__).parents[2] / "docs" / "reproductions.md"
_WORDS = Path(__file__).with_name("words.md")
_UNKNOWN = "not run"


def page() -> str:
    """The whole page: ``words.md``, with results in place of the names in double braces."""
    hearts, rounds = read(fed_heart.FILE), read(fedavg.FILE)
    text = _WORDS.read_text(encoding="utf-8")
    for name, results in {
        "fed-heart": str(heart_table(hearts)),
        "fed-heart-made": makings(hearts),
        "fedavg-2nn": str(rounds_table("2nn", rounds)),
        "fedavg-cnn": str(rounds_table("cnn", rounds)),
        "fedavg-made": makings(rounds),
    }.items():
        text = text.replace(f"{{{{{name}}}}}", results.strip().replace("## ", "### ", 1))
    return text


def heart_table(records: Sequence[Record]) -> Table:
    """Accuracy by method and centre, here and at FLamby."""
    heading = ("method", "from", *published.CENTRES, "mean of centres", "all rows")
    table = Table("Accuracy in %, mean ± deviation over five seeds", heading)
    for method in fed_heart.METHODS:
        for start in fed_heart.STARTS:
            own = [one["right"] for one in records if (one["method"], one["start"]) == (method, start)]
            table.add(method, f"{start}'s first weights", *_spreads(own))
        table.add("", "FLamby's results", *_spreads(published.RIGHT[method]))
    return table


def _spreads(seeds: Sequence[Mapping[str, int]]) -> list[str]:
    shares = [[right[centre] / rows for centre, rows in published.TEST_ROWS.items()] for right in seeds]
    overall = [sum(right.values()) / sum(published.TEST_ROWS.values()) for right in seeds]
    columns = [*zip(*shares, strict=True), [statistics.mean(one) for one in shares], overall]
    return [f"{100 * statistics.mean(column):.1f} ± {100 * statistics.stdev(column):.1f}" for column in columns]


def rounds_table(model: str, records: Sequence[Record]) -> Table:
    """Rounds to the target by setting, as in the paper's tables 1 and 2."""
    table = Table(
        f"{model.upper()}: rounds to {100 * fedavg.TARGETS[model]:.0f} %",
        ("C", "E", "B", "u", "IID", "not IID", "s a round"),
    )
    for setting in fedavg.SETTINGS:
        if (setting.model, setting.partition) == (model, "iid"):
            table.add(*_numbers(setting), *_cells(setting, records), _pace(setting, records))
    return table


def _numbers(setting: fedavg.Setting) -> list[str]:
    """Its C, E, B and u."""
    steps = 600 * setting.epochs / (setting.batch or 600)
    return [f"{setting.share:g}", str(setting.epochs), str(setting.batch or "∞"), f"{steps:g}"]


def _cells(setting: fedavg.Setting, records: Sequence[Record]) -> list[str]:
    """Its rounds by partition."""
    each = [setting._replace(partition=partition) for partition in fedavg.PARTITIONS]
    return [_cell(one, fedavg.curves(records, one)) for one in each]


def _cell(setting: fedavg.Setting, tried: Mapping[int, Curve]) -> str:
    """The rounds, and the rate that needs the fewest; a † where its neighbours on the grid are not all tried."""
    if not tried:
        return _UNKNOWN
    place = best(setting.target, tried)
    curve = tried[place]
    reached = rounds_to(setting.target, curve.accuracies)
    most = max(one.rounds for one in tried.values())
    open_ = next_run(setting.target, tried, setting.start, most) is not None
    rounds = f"> {curve.rounds}" if reached is None else f"{reached:.1f}"
    return f"{rounds} (η = {rate(place):g}){' †' if open_ else ''}"


def _pace(setting: fedavg.Setting, records: Sequence[Record]) -> str:
    """Seconds a round with its evaluation, on one core: measured, or by the epochs of settings that were run."""
    paces = {
        one: statistics.median(record["seconds_a_round"] for record in records if fedavg.setting_of(record) == one)
        for one in {fedavg.setting_of(record) for record in records}
    }
    kin = [one for one in paces if one.model == setting.model]
    same = [one for one in kin if one[2:] == setting[2:]]
    if same:
        return _two_digits(statistics.mean(paces[one] for one in same))
    like = [one for one in kin if one.batch == setting.batch] or kin
    epoch = [paces[one] / _work(one) for one in like]
    return f"about {_two_digits(statistics.median(epoch) * _work(setting))}" if like else ""


def _two_digits(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


def _work(setting: fedavg.Setting) -> float:
    """What a round trains, in epochs of all clients."""
    return setting.share * setting.epochs
