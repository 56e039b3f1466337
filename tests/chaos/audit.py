"""Whether a training that was killed left everything once, and whether it is, to the last number, one that was not."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.chaos import books
from tests.chaos.attempts import Training
from tests.chaos.books import Books

_OWN = ("run_id", "model_version", "seconds")  # of a summary: what no two trainings share
_LAGGING_SECONDS = 15.0  # Prefect's server records task runs after the command has ended


def audit(training: Training, weights: Mapping[int, str]) -> list[str]:
    """Everything that is not as it should be, in sentences. ``weights`` are the digests that the rounds should have."""
    last = training.attempts[-1]
    if last.code != 0:
        return [f"the last attempt, {last.point}, ended with {last.code}: {last.printed[-500:]}"]
    found = books.read(training)
    return [
        *found.duplicates,
        *_weights(training, weights),
        *_run(found),
        *_points(found, training.rounds),
        *_versions(found, weights),
        *_attempts(training),
        *_alive(training),
    ]


def differences(training: Training, undisturbed: Training) -> Iterator[str]:
    """What is not as in the same training with nothing in its way, but for what no two trainings share."""
    mine, theirs = _answer(training), _answer(undisturbed)
    yield from (f"the summary's {name} is {mine.get(name)}, undisturbed {theirs[name]}" for name in theirs
                if mine.get(name) != theirs[name])  # fmt: skip
    found, expected = books.read(training), books.read(undisturbed)
    if found.params != expected.params:
        yield f"{len(found.params)} parameters, undisturbed {len(expected.params)}"
    values, wanted = _values(found), _values(expected)
    for name, step in sorted(wanted.keys() | values.keys()):
        if values.get((name, step)) != wanted.get((name, step)):
            yield f"{name} of step {step} is {values.get((name, step))}, undisturbed {wanted.get((name, step))}"


def _answer(training: Training) -> dict[str, Any]:
    answer = json.loads(training.attempts[-1].answer)
    return {name: value for name, value in answer.items() if name not in _OWN}


def _values(found: Books) -> dict[tuple[str, int], float]:
    """The metrics, but for the times."""
    return {(point.name, point.step): point.value for point in found.points if not point.name.startswith("seconds")}


def _weights(training: Training, weights: Mapping[int, str]) -> Iterator[str]:
    recorded = books.weights_by_round(training)
    for number, digest in weights.items():
        if recorded.get(number) != digest:
            yield f"round {number} has other weights on record than undisturbed"
    if json.loads(training.attempts[-1].answer)["weights_sha256"] != weights[training.rounds]:
        yield "the command answers with other weights than undisturbed"


def _run(found: Books) -> Iterator[str]:
    if not found.runs:
        yield "there is no MLflow run"
    for run, status, ended in found.runs:
        if (status, ended) != ("FINISHED", True):
            yield f"MLflow run {run} is {status}"


def _points(found: Books, rounds: int) -> Iterator[str]:
    steps: dict[str, list[int]] = defaultdict(list)
    for point in found.points:
        steps[point.name].append(point.step)
    if not {"loss", "accuracy", "test_loss"} <= steps.keys():
        yield f"there are the metrics {sorted(steps)}"
    for name, those in steps.items():
        if sorted(those) not in ([0], list(range(1, rounds + 1))):
            yield f"metric {name} has the steps {sorted(those)}"


def _versions(found: Books, weights: Mapping[int, str]) -> Iterator[str]:
    by_round = {version.round: version for version in found.versions}
    for number, digest in weights.items():
        version, parent = by_round.get(number), by_round.get(number - 1)
        if version is None:
            yield f"round {number} has no version"
            continue
        if version.tags["weights_sha256"] != digest:
            yield f"the version of round {number} has other weights than undisturbed"
        if parent is not None and version.tags.get("parent_version") != str(parent.number):
            yield f"the version of round {number} does not name its parent"
    yield from (f"the logged model of round {number} is not ready" for number, is_ready in found.models if not is_ready)


def _attempts(training: Training) -> Iterator[str]:
    for number, attempt in enumerate(training.attempts, 1):
        vanished = sorted(set(attempt.rounds) - attempt.recorded)
        if vanished:
            yield f"attempt {number} ({attempt.point}): rounds {vanished} were done and are not on record"
        if len(attempt.in_flight) > 1:
            yield f"attempt {number} ({attempt.point}): rounds {attempt.in_flight} were under way at once"
        if attempt is not training.attempts[-1] and not attempt.was_hit:
            said = attempt.printed[-300:]
            yield f"attempt {number} did not come to {attempt.point}, it ended with {attempt.code}: {said}"


def _alive(training: Training) -> list[str]:
    deadline = time.monotonic() + _LAGGING_SECONDS
    while (alive := books.alive_in_prefect(training)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return alive
