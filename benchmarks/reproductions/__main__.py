"""Published results, again: ``python -m benchmarks.reproductions fed-heart``, or ``fedavg``, or ``page``.

The data are looked for in ``$ROUNDHOUSE_DATA``. Results go to ``docs/reproductions.md``.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.reproductions import fed_heart, fedavg, page
from configs.environment import quieten
from federated.errors import InputError


def main() -> None:
    """Computes what is asked for and writes the page."""
    quieten()
    asked = _parser().parse_args()
    try:
        asked.compute(asked)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    page.FILE.write_text(page.page(), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reproductions")
    commands = parser.add_subparsers(required=True)
    heart = commands.add_parser("fed-heart", help="FLamby's Fed-Heart-Disease; minutes")
    heart.set_defaults(compute=lambda _: fed_heart.reproduce(print))
    rounds = commands.add_parser("fedavg", help="the FedAvg paper's rounds to a target; goes on where it was")
    rounds.add_argument("models", nargs="*", default=list(fedavg.TARGETS), help="2nn, cnn; both where none is named")
    rounds.add_argument("--partition", choices=list(fedavg.PARTITIONS), action="append", help="only settings with this")
    rounds.add_argument("--share", type=float, action="append", help="only settings with this C")
    rounds.add_argument("--batch", type=int, action="append", help="only settings with this B, of which 0 is ∞")
    rounds.add_argument("--epochs", type=int, action="append", help="only settings with this E")
    rounds.add_argument("--rounds", type=int, default=1000, help="how long a curve may grow")
    rounds.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    rounds.set_defaults(compute=_rounds)
    commands.add_parser("page", help="only write the page").set_defaults(compute=lambda _: None)
    return parser


def _rounds(asked: argparse.Namespace) -> None:
    settings = [
        setting
        for setting in fedavg.SETTINGS
        if setting.model in asked.models
        and setting.partition in (asked.partition or [setting.partition])
        and setting.share in (asked.share or [setting.share])
        and (setting.batch or 0) in (asked.batch or [setting.batch or 0])
        and setting.epochs in (asked.epochs or [setting.epochs])
    ]
    fedavg.reproduce(settings, asked.rounds, time.time() + 60 * asked.minutes, print)


if __name__ == "__main__":
    main()
