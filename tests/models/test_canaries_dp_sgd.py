"""Canary records in a client's local training by DP-SGD, of the real engine: rows whose gradients are orthogonal."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.data import Client, Split
from federated.dp_sgd import DpSgd
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.privacy.accounting import SelfComposed, epsilon
from federated.privacy.auditing import Scored, noise_at_most
from federated.privacy.canaries import Canaries
from federated.rounds import broadcast, client_half, initial_state
from models import keras_engine, private_loop
from models.architecture import Model
from models.dense_examples import DenseExamples
from models.devices import prepare_devices
from models.gradients import ClippedExamples
from models.keras_engine import KerasEngine
from models.specs import CustomModel, Linear
from tests.federated.test_canaries import COUNT, DELTA, SIZE, bounds, drawn, together

TRAININGS = 16
FAR = 1000.0
"""Norm of a canary's features: of its gradient all but a thousandth is theirs, and not the bias's."""


@pytest.fixture(scope="module", autouse=True)
def _devices() -> None:
    prepare_devices()


def one_by_one(inputs, classes):
    """A line again. Its penalty of nothing makes the engine take examples one by one."""
    dense = keras.layers.Dense(1, kernel_regularizer=keras.regularizers.L2(0.0))
    return keras.Sequential([keras.Input(inputs), dense])


LINES = {"all at once": Linear(), "one by one": CustomModel(target=f"{__name__}:one_by_one")}
each = pytest.mark.parametrize("line", LINES.values(), ids=LINES)


def records(canaries: Canaries) -> Split:
    """A canary (x, y), or zeros in its place: from a line through nothing, its gradient is -2 y (x, 1)."""
    features = canaries.directions * (FAR * canaries.included[:, None])
    targets = canaries.included * (canaries.norm / (2 * np.hypot(FAR, 1.0)))
    return Split(features.astype(np.float32), targets.astype(np.float32))


def work(noise: float = 1.0, steps: int = 1, batch: int | None = None, seeded: bool = True) -> LocalTraining:
    """A learning rate so small that no step changes what the next one finds."""
    how = DpSgd(norm=1.0, noise_multiplier=noise, seeded=seeded)
    return LocalTraining(steps=steps, batch_size=batch, optimizer=Sgd(learning_rate=1e-5), dp_sgd=how)


def scored(
    asked: LocalTraining, line: Model = LINES["all at once"], norm: float = 2.0, trainings: int = TRAININGS
) -> Scored:
    """From what a client sends: of canaries whose gradients have such a norm, 250 of them in a training."""
    engine, found = KerasEngine(line, (SIZE,), None), []
    for place in range(trainings):
        canaries, audited = drawn(place)._replace(norm=norm), Algorithm(seed=place, local=asked)
        state = initial_state(audited, engine, 1)._replace(params=np.zeros(engine.size, np.float32))
        rows = records(canaries)
        client = Client("a", rows, rows.take(np.arange(0)))
        found.append(canaries.told(client_half(audited, engine, broadcast(audited, state), client).update.delta))
    return together(found)


def claim(asked: LocalTraining) -> float:
    return epsilon([SelfComposed(asked.release(COUNT), asked.asked(COUNT))], DELTA).best


def weaken(monkeypatch: pytest.MonkeyPatch, left: float) -> None:
    """Leaves so much of the noise that a step draws."""
    whole = private_loop.normals
    monkeypatch.setattr(private_loop, "normals", lambda size, key, deviation: whole(size, key, left * deviation))


@each
@pytest.mark.parametrize("asked", [work(), work(2.0, steps=4), work(0.5)], ids=["a step", "four steps", "less noise"])
def test_records_are_told_apart_no_better_than_claimed_and_no_worse_than_they_can_be(line, asked) -> None:
    """All rows in every step: T of them are one Gaussian mechanism with 1/√T of the noise."""
    found, noise = scored(asked, line), asked.dp_sgd.noise_multiplier / np.sqrt(asked.steps)
    assert 0.9 < min(bounds(found)) <= max(bounds(found)) <= claim(asked)
    assert 1.0 <= noise_at_most(found) / noise < 1.35


def test_noise_of_the_operating_system_hides_as_much() -> None:
    found = bounds(scored(work(seeded=False)))
    assert 0.3 < min(found) <= max(found) <= claim(work())


def test_records_drawn_by_chance_are_hidden_better_and_as_well_as_said() -> None:
    drawing, always = work(0.5, batch=COUNT // 2), work(0.5)
    assert claim(drawing) < claim(always)
    found = scored(drawing)
    assert 0.9 < min(bounds(found)) <= max(bounds(found)) <= claim(drawing)
    assert noise_at_most(found) > 1.2 * noise_at_most(scored(always))


@each
def test_no_noise_is_caught(line, monkeypatch) -> None:
    weaken(monkeypatch, 0.0)
    assert min(bounds(scored(work(), line))) > claim(work())


@each
def test_a_quarter_too_little_noise_is_caught(line, monkeypatch) -> None:
    weaken(monkeypatch, 0.75)
    assert noise_at_most(scored(work(), line)) < 1.0


@each
@pytest.mark.parametrize("norm", [10.0, 1e6])
def test_gradients_that_are_not_clipped_are_caught_and_clipped_they_tell_no_more(line, norm, monkeypatch) -> None:
    promised = claim(work())
    assert max(bounds(scored(work(), line, norm))) <= promised
    monkeypatch.setattr(keras_engine, "DenseExamples", lambda model, objective, _: DenseExamples(model, objective, 1e9))
    monkeypatch.setattr(
        keras_engine, "ClippedExamples", lambda one, layout, _, **how: ClippedExamples(one, layout, 1e9, **how)
    )
    assert min(bounds(scored(work(), line, norm))) > promised


@pytest.mark.slow
def test_a_tenth_too_little_noise_is_caught_by_32000_canaries(monkeypatch) -> None:
    assert 1.0 <= noise_at_most(scored(work(), trainings=128)) < 1.1
    weaken(monkeypatch, 0.9)
    assert noise_at_most(scored(work(), trainings=128)) < 1.0


def test_sampling_that_is_claimed_and_not_done_is_caught() -> None:
    assert min(bounds(scored(work(0.6)))) > claim(work(0.6, batch=2))


def test_steps_that_are_not_counted_are_caught() -> None:
    assert min(bounds(scored(work(2.0, steps=16)))) > claim(work(2.0))


def test_a_canarys_gradient_is_as_long_as_said_and_its_own() -> None:
    """Seen without noise worth the name, in a batch of all rows."""
    canaries = drawn(0)._replace(norm=0.5)
    found = scored(work(1e-6), norm=0.5).scores[:COUNT] * COUNT / 1e-5
    np.testing.assert_allclose(found, 0.5 * canaries.included, atol=1e-4)
