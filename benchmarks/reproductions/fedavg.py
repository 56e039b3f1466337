"""Rounds to a target accuracy, as the FedAvg paper counts them (McMahan et al. 2017), on Fashion-MNIST."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock

from benchmarks.reproductions.curves import Curve, rounds_to
from benchmarks.reproductions.kept import FOLDER, Record, finish, made, put_aside, read, taken_up, write
from benchmarks.reproductions.loop import models
from benchmarks.reproductions.sweep import Wanted, next_run, place_of, rate
from configs.environment import quieten, workers
from configs.loading import load_plan
from federated.errors import TrainingError
from tasks.engines import engine_of, prepare

if TYPE_CHECKING:
    from configs.plan import Plan
    from federated.component import Vector
    from federated.federation import Federation
    from models.keras_engine import KerasEngine

FILE = FOLDER / "fedavg.jsonl"
_LOCK = Path(tempfile.gettempdir()) / "roundhouse-reproductions.lock"
TARGETS = {"2nn": 0.84, "cnn": 0.86}
PARTITIONS = {
    "iid": "partition={kind: iid, clients: 100}",
    "shards": "partition={kind: shards, clients: 100, shards_each: 2}",
}
TEST_ROWS = 10_000
_STARTS = {("iid", 10): -3, ("shards", 10): -4}  # on the grid of rates; every other setting starts at 10^(-2/3)
_START = -2


class Setting(NamedTuple):
    """A cell of the paper's tables: ``share`` is its C, ``epochs`` its E, ``batch`` its B, of which None is ∞."""

    model: str
    partition: str
    share: float
    epochs: int
    batch: int | None

    @property
    def target(self) -> float:
        """The accuracy whose rounds are counted."""
        return TARGETS[self.model]

    @property
    def start(self) -> int:
        """Where on the grid of rates the search begins."""
        return _STARTS.get((self.partition, self.batch or 0), _START)

    def plan(self, place: int) -> Plan:
        """What is trained at a place of the grid."""
        local = f"{{epochs: {self.epochs}, batch_size: {self.batch or 'null'}, "
        return load_plan(
            f"papers/fedavg-{self.model}",
            [
                PARTITIONS[self.partition],
                f"algorithm.select.cohort={round(100 * self.share)}",
                f"algorithm.local={local}optimizer: {{kind: sgd, learning_rate: {rate(place)}}}}}",
            ],
        )


SETTINGS = tuple(
    Setting(model, partition, share, epochs, batch)
    for model in TARGETS
    for share in (0.1, 1.0)
    for batch in (10, None)
    for epochs in (1, 5)
    for partition in PARTITIONS
)
"""All of them, those first that take the least time."""


def curves(records: Sequence[Record], setting: Setting) -> dict[int, Curve]:
    """What is known of a setting, by place of the grid; results of other plans than today's do not count."""
    found = {}
    for record in records:
        place = place_of(record["rate"])
        if setting_of(record) == setting and record["digest"] == setting.plan(place).digest():
            accuracies = tuple(right / TEST_ROWS for right in record["right"])
            found[place] = Curve(accuracies, record["diverged"])
    return found


def run(setting: Setting, wanted: Wanted, until: float) -> Record:
    """One training, up to the target, to the limit or to the moment ``until``, in seconds since 1970.

    One that is cut short, by ``until`` or otherwise, goes on from there when it is asked for again.

    Raises:
        InputError: the data are absent.
    """
    quieten()
    plan = setting.plan(wanted.place)
    digest, diverged = plan.digest(), False
    right, params = taken_up(digest)
    moments = [time.monotonic()]
    try:
        for tested, model in _tested(plan, setting, len(right), params):
            right.append(tested)
            moments.append(time.monotonic())
            put_aside(digest, right, model)
            if _is_done(setting, wanted, right) or time.time() > until:
                break
    except TrainingError:
        diverged = True
        moments.append(time.monotonic())
    if diverged or _is_done(setting, wanted, right):
        finish(digest)
    named = setting._asdict() | {"rate": rate(wanted.place), "seed": plan.algorithm.seed, "digest": digest}
    pace = round(statistics.median(after - before for before, after in pairwise(moments)), 3)
    return named | {"made": made(), "seconds_a_round": pace, "diverged": diverged, "right": right}


def _is_done(setting: Setting, wanted: Wanted, right: Sequence[int]) -> bool:
    return right[-1] / TEST_ROWS >= setting.target or len(right) > wanted.limit


def _tested(plan: Plan, setting: Setting, known: int, params: Vector | None) -> Iterator[tuple[int, Vector]]:
    """Test rows that the global model gets right, and the model, before round 1 and after each round.

    The first ``known`` are left out; ``params`` is the model of the last of these.
    """
    federation, engine = _federation(setting.partition), _engine(setting.model, setting.partition)
    engine.prepare(plan.algorithm.local)
    first = engine.init(plan.algorithm.seed) if params is None else params
    later = models(plan, engine, federation, first, max(known - 1, 0))
    for model in islice(later, min(known, 1), None):
        yield int(engine.score(model, federation.test)["accuracy"].sum()), model


def reproduce(settings: Sequence[Setting], most: int, until: float, say: Callable[[str], None]) -> None:
    """Searches the best rate of every setting, as many side by side as there are workers, and goes on where it was.

    Each curve is kept as soon as it is there. Within a setting runs follow one another, so that what is run does not
    depend on the number of workers.
    """
    waiting, running = list(settings), dict[Future[Record], Setting]()
    with ProcessPoolExecutor(workers(), multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            while waiting and len(running) < workers() and time.time() < until:
                setting = waiting.pop(0)
                wanted = next_run(setting.target, curves(read(FILE), setting), setting.start, most)
                if wanted is not None:
                    running[pool.submit(run, setting, wanted, until)] = setting
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                waiting.insert(0, running.pop(future))
                _keep(future.result())
                say(line(future.result()))


def line(record: Record) -> str:
    """A curve in words."""
    setting, accuracies = setting_of(record), [right / TEST_ROWS for right in record["right"]]
    reached = rounds_to(setting.target, accuracies)
    how = "diverged" if record["diverged"] else f"best {max(accuracies):.4f}" if reached is None else f"{reached:.1f}"
    return f"{tuple(setting)} rate {record['rate']}: {how} in {len(accuracies) - 1} rounds"


def _keep(record: Record) -> None:
    """Puts a record in place of an older one that is not longer. Two commands may do so side by side."""
    with FileLock(_LOCK):
        there = read(FILE)
        others = [one for one in there if _key(one) != _key(record)]
        same = [one for one in there if _key(one) == _key(record) and one["digest"] == record["digest"]]
        longest = max([record, *same], key=lambda one: len(one["right"]))
        write(FILE, sorted([*others, longest], key=_key))


def _key(record: Record) -> tuple[int, float]:
    return SETTINGS.index(setting_of(record)), record["rate"]


def setting_of(record: Mapping[str, object]) -> Setting:
    """The setting that a record is of."""
    return Setting(*(record[field] for field in Setting._fields))  # type: ignore[arg-type]


@lru_cache(maxsize=2)
def _federation(partition: str) -> Federation:
    """Both models' plans have the same data."""
    prepare()
    return load_plan("papers/fedavg-2nn", [PARTITIONS[partition]]).federation()


@lru_cache(maxsize=2)
def _engine(model: str, partition: str) -> KerasEngine:
    return engine_of(load_plan(f"papers/fedavg-{model}"), _federation(partition))
