"""What is done to trainings, and what is to be found afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.chaos import books, damage
from tests.chaos.attempts import Attempt, Training
from tests.chaos.audit import audit, differences
from tests.chaos.damage import Damage
from tests.chaos.points import POINTS
from tests.chaos.servers import Outage, Server, Servers, servers
from tests.chaos.versions import unusable

_LEASE_SECONDS = 60  # the shortest that Prefect takes; renewed after three quarters of it
_SAYS_SO = ("going on from the checkpoint before", "from MLflow")
_DEPLOYMENT = {"PREFECT__RUNTIME__DEPLOYMENT__ID": "00000000-0000-0000-0000-000000000001"}


class Attack(NamedTuple):
    """A point, the round or the how-many-th time, and what the disk does afterwards."""

    point: str
    number: int
    damage: Damage = damage.none


class Harm(NamedTuple):
    """What was done, and what it cost.

    ``lost`` are rounds on record that were trained again, ``duplicates`` what is there twice, and ``seconds`` are from
    the restart to the end of the first new round.
    """

    what: str
    was_kill: bool
    lost: int = 0
    duplicates: int = 0
    seconds: float | None = None
    tensorflow_seconds: float | None = None


class Outcome(NamedTuple):
    """Of a trial: what was done, and everything that is wrong afterwards."""

    harms: list[Harm]
    wrong: list[str]


Trial = Callable[[Path, Training], Outcome]
"""Takes a home and the same training undisturbed."""


def attacked(attacks: Sequence[Attack]) -> Trial:
    """One training, killed again and again, with embedded Prefect and MLflow."""

    def trial(home: Path, undisturbed: Training) -> Outcome:
        return _attack(Training(home, "attacked", undisturbed.rounds), attacks, undisturbed)

    return trial


def attacked_on_servers(attacks: Sequence[Attack], unanswered: Sequence[Attack]) -> Trial:
    """The same with servers; and a training that lives on while answers of MLflow's are lost."""

    def trial(home: Path, undisturbed: Training) -> Outcome:
        with servers(home) as both:
            first = _attack(Training(home, "attacked", undisturbed.rounds, both.env), attacks, undisturbed)
            second = _unanswered(Training(home, "unanswered", undisturbed.rounds, both.env), unanswered, undisturbed)
        return Outcome(first.harms + second.harms, first.wrong + second.wrong)

    return trial


def refused(home: Path, undisturbed: Training) -> Outcome:
    """MLflow refuses a version, as on a full disk: the training ends, and the same command goes on."""
    training = Training(home, "refused", undisturbed.rounds)
    training.attempt("refused", 3)
    training.attempt()
    return Outcome([Harm(POINTS["refused"].says, was_kill=False)], wrong_with(training, undisturbed))


class OutageOf(NamedTuple):
    """Which server, the line at which it dies, after how long it is started, and tenths of a second more a round."""

    server: Callable[[Servers], Server]
    at: str
    seconds: float
    slower: int


def outages(those: Sequence[OutageOf]) -> Trial:
    """Trainings that live on while a server dies and comes back."""

    def trial(home: Path, undisturbed: Training) -> Outcome:
        outcome = Outcome([], [])
        with servers(home) as both:
            for number, outage in enumerate(those):
                training = Training(home, f"outage-{number}", undisturbed.rounds, both.env)
                found = _outlived(training, outage.server(both), outage, f"slowly {outage.slower}", undisturbed)
                outcome.harms.extend(found.harms)
                outcome.wrong.extend(found.wrong)
        return outcome

    return trial


def deployed(home: Path, undisturbed: Training) -> Outcome:
    """A training of a deployment keeps its place in the queue of its plan while Prefect's server is away."""
    with servers(home) as both:
        training = Training(home, "deployed", undisturbed.rounds, both.env | _DEPLOYMENT)
        outage = OutageOf(lambda both: both.prefect, "round 2/", 0.0, 60)
        return _outlived(training, both.prefect, outage, f"leased {_LEASE_SECONDS} slowly {outage.slower}", undisturbed)


def wrong_with(training: Training, undisturbed: Training) -> list[str]:
    """Everything, in sentences."""
    weights = {number: digest for number, digest in books.weights_by_round(undisturbed).items() if number}
    return audit(training, weights) or [*differences(training, undisturbed), *unusable(training)]


def _attack(training: Training, attacks: Sequence[Attack], undisturbed: Training) -> Outcome:
    """Kills, starts the same command again, and lets it end at last."""
    twice: list[int] = []
    for point, number, damages in attacks:
        attempt = training.attempt(point, number)
        twice.append(len(books.read(training).duplicates))
        if not attempt.was_killed:
            break
        damages(training)
    else:
        training.attempt()
        twice.append(len(books.read(training).duplicates))
    following = list(zip(attacks, training.attempts[1:], itertools.pairwise(twice), strict=False))
    harms = [_harm(attack, attempt, after - before) for attack, attempt, (before, after) in following]
    fired = sum(attempt.was_killed for attempt in training.attempts)
    unfired = [f"{attack.point} {attack.number} never happened, nor what follows it" for attack in attacks[fired:][:1]]
    unsaid = [
        f"after {attack.point} the state was {attack.damage.__name__}, and the training did not say so"
        for attack, attempt, _ in following
        if attack.damage is not damage.none and not any(text in attempt.printed for text in _SAYS_SO)
    ]
    return Outcome(harms, unfired + unsaid + wrong_with(training, undisturbed))


def _harm(attack: Attack, following: Attempt, twice: int) -> Harm:
    """A round whose state the disk lost has to be trained again: that is not the kill's doing."""
    excused = 0 if attack.damage is damage.none else 1
    says = POINTS[attack.point].says + (f"; the state {attack.damage.__name__}" if excused else "")
    lost = max(0, len(following.again) - excused)
    return Harm(says, True, lost, twice, following.first_round_seconds, following.tensorflow_seconds)


def _unanswered(training: Training, attacks: Sequence[Attack], undisturbed: Training) -> Outcome:
    *others, last = [f"{attack.point} {attack.number}" for attack in attacks]
    attempt = training.attempt(" ".join([*others, last.split()[0]]), attacks[-1].number)
    lost = sum("unanswered" in line for line in attempt.diary)
    wrong = [f"{lost} of {len(attacks)} answers were lost"] if lost < len(attacks) else []
    harms = [Harm(POINTS[attack.point].says, was_kill=False) for attack in attacks]
    return Outcome(harms, wrong + wrong_with(training, undisturbed))


def _outlived(training: Training, server: Server, outage: OutageOf, points: str, undisturbed: Training) -> Outcome:
    *point, number = points.split()
    happens = Outage(server, outage.at, outage.seconds)
    attempt = training.attempt(" ".join(point), int(number), happens)
    wrong: list[str] = []
    if not happens.is_over:
        wrong.append(f"{server.name} at {outage.at}: the training did not wait for it, it ended with {attempt.code}")
        server.start()
    server.wait()
    found = [f"{server.name} at {outage.at}: {text}" for text in wrong_with(training, undisturbed)]
    twice = len(books.read(training).duplicates)
    what = f"{server.name}, away for {outage.seconds:.0f} s and its start"
    return Outcome([Harm(what, was_kill=True, duplicates=twice)], wrong + found)
