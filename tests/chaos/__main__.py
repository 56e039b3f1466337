"""``python -m tests.chaos [TRIAL…]``: kills real trainings and their servers, and looks what is left.

Leave the checkout alone meanwhile: a training whose code has changed does not go on.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from configs import environment
from tests.chaos import report
from tests.chaos.attempts import Training
from tests.chaos.plans import ROUNDS, TRIALS
from tests.chaos.trials import Outcome

_KILLS = 30  # at least, in all trials together


def main() -> None:
    """Exit code 1 where anything is not as it should be."""
    environment.quieten()
    asked, began = sys.argv[1:] or list(TRIALS), time.monotonic()
    if not set(asked) <= TRIALS.keys():
        sys.exit(f"{__doc__}\n\nTrials: {', '.join(TRIALS)}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    undisturbed = _undisturbed(folder)
    outcomes = {name: _tried(name, folder, undisturbed) for name in asked}
    harms = [harm for outcome in outcomes.values() for harm in outcome.harms]
    wrong = [f"{name}: {text}" for name, outcome in outcomes.items() for text in outcome.wrong]
    kills = sum(harm.was_kill for harm in harms)
    if asked == list(TRIALS) and kills < _KILLS:
        wrong.append(f"{kills} kills, fewer than {_KILLS}")
    minutes = f"{(time.monotonic() - began) / 60:.1f} minutes"
    print("\n".join(["", report.table(harms), "", report.sums(harms), "", minutes]))
    if wrong or any(harm.lost or harm.duplicates for harm in harms):
        print("\n".join(["", f"{len(wrong)} things are wrong; the homes are in {folder}", *wrong]))
        sys.exit(1)
    shutil.rmtree(folder)


def _undisturbed(folder: Path) -> Training:
    """The training with nothing in its way."""
    training = Training(folder / "undisturbed", "undisturbed", ROUNDS)
    if training.attempt().code != 0:
        sys.exit(training.attempts[-1].printed)
    return training


def _tried(name: str, folder: Path, undisturbed: Training) -> Outcome:
    """In a home that has Prefect's tables, and nothing else."""
    began = time.monotonic()
    shutil.copytree(undisturbed.home / "prefect", folder / name / "prefect")
    outcome = TRIALS[name](folder / name, undisturbed)
    seconds = time.monotonic() - began
    print(f"{name}: {len(outcome.harms)} done, {len(outcome.wrong)} wrong, {seconds:.0f} s", file=sys.stderr)
    return outcome


if __name__ == "__main__":
    main()
