"""The same arguments give the same bits: alone, side by side, in any order, in another process."""

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import keras
import numpy as np
import pytest

import models.keras_engine
from federated.data import Client, Split, concatenate
from federated.engine import AS_ASKED, Fitted
from federated.local_optimizers import Adam, Sgd
from federated.local_training import LocalTraining
from federated.updates import digest
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.specs import CustomModel, Linear, Logistic, Mlp
from tests.models.samples import classified, valued, weights

FEATURES, CLASSES = 6, 3
SIZES = [1, 2, 3, 5, 8, 13, 16, 17, 31, 40, 64, 100]
WORK = LocalTraining(epochs=2, batch_size=8, optimizer=Adam(learning_rate=0.01))


def random_throughout(inputs, classes):
    return keras.Sequential(
        [
            keras.Input(inputs),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(output_units(classes)),
        ]
    )


meeting = threading.Barrier(1)


def meeting_halfway(inputs, classes):
    """Whoever builds this waits a moment, between two layers, for others who do."""
    rows = keras.Input(inputs)
    hidden = keras.layers.Dense(4)(rows)
    with contextlib.suppress(threading.BrokenBarrierError):
        meeting.wait(timeout=1)
    return keras.Model(rows, keras.layers.Dense(output_units(classes))(hidden))


SPEC = CustomModel(target=f"{__name__}:random_throughout")
CLIENTS = [
    Client(f"client-{rows}", classified(rows, FEATURES, CLASSES, rows), classified(1, FEATURES, 3)) for rows in SIZES
]
TERMS = [AS_ASKED for _ in CLIENTS]


@cache
def engine() -> KerasEngine:
    return KerasEngine(SPEC, (FEATURES,), CLASSES)


def rng(client: Client) -> np.random.Generator:
    return np.random.default_rng(len(client.train))


def fit(one: KerasEngine, client: Client) -> Fitted:
    return one.fit(one.init(0), client.train, WORK, rng(client))


@cache
def alone() -> dict[str, Fitted]:
    """Every client trained by itself, one after the other."""
    return {client.name: fit(engine(), client) for client in CLIENTS}


def same(first: Fitted, second: Fitted) -> bool:
    return first.params.tobytes() == second.params.tobytes() and first.metrics == second.metrics


def test_the_same_call_twice_gives_the_same_bits():
    for client in CLIENTS:
        assert same(fit(engine(), client), alone()[client.name])


def test_another_stream_gives_other_bits():
    client = CLIENTS[-1]
    start = engine().init(0)
    other = engine().fit(start, client.train, WORK, np.random.default_rng(12345))
    assert not same(other, alone()[client.name])


def test_clients_side_by_side_give_the_same_bits_as_alone():
    start = engine().init(0)

    def train(client: Client) -> Fitted:
        return engine().fit(start, client.train, WORK, rng(client))

    with ThreadPoolExecutor(6) as pool:
        for _ in range(3):
            for client, fitted in zip(CLIENTS, pool.map(train, CLIENTS), strict=True):
                assert same(fitted, alone()[client.name])


def test_an_engine_first_used_from_many_threads_gives_the_same_bits():
    """Training and scoring are traced while others wait for them."""
    fresh = KerasEngine(SPEC, (FEATURES,), CLASSES)
    start = fresh.init(0)

    def train(client: Client) -> tuple[Fitted, bytes]:
        fitted = fresh.fit(start, client.train, WORK, rng(client))
        return fitted, fresh.score(start, client.train)["loss"].tobytes()

    with ThreadPoolExecutor(6) as pool:
        for client, (fitted, loss) in zip(CLIENTS, pool.map(train, CLIENTS), strict=True):
            assert same(fitted, alone()[client.name])
            assert loss == engine().score(start, client.train)["loss"].tobytes()


def test_initial_weights_drawn_side_by_side_are_those_drawn_alone(monkeypatch: pytest.MonkeyPatch):
    one = KerasEngine(CustomModel(target=f"{__name__}:meeting_halfway"), (FEATURES,), CLASSES)
    expected = [one.init(seed).tobytes() for seed in (1, 2)]
    monkeypatch.setattr(sys.modules[__name__], "meeting", threading.Barrier(2))
    with ThreadPoolExecutor(2) as pool:
        assert [params.tobytes() for params in pool.map(one.init, (1, 2))] == expected


def test_a_cohort_gives_the_same_bits_as_its_clients_alone():
    cohort = engine().fit_cohort(engine().init(0), CLIENTS, WORK, [rng(c) for c in CLIENTS], TERMS)
    for client, fitted in zip(CLIENTS, cohort, strict=True):
        assert same(fitted, alone()[client.name])


def test_a_cohort_with_too_few_streams_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        list(engine().fit_cohort(engine().init(0), CLIENTS, WORK, [rng(CLIENTS[0])], TERMS))


def test_no_size_of_client_epoch_or_batch_is_compiled_anew():
    fresh = KerasEngine(Logistic(), (FEATURES,), CLASSES)
    start = fresh.init(0)
    for client in CLIENTS:
        for epochs, batch_size in ((1, 4), (3, None)):
            work = WORK.model_copy(update={"epochs": epochs, "batch_size": batch_size})
            fresh.fit(start, client.train, work, rng(client))
        fresh.score(start, client.train)
    (loop,) = fresh._loops.values()
    assert loop._run.experimental_get_tracing_count() == 1
    assert fresh._score.experimental_get_tracing_count() == 1


def test_each_optimizer_has_a_loop_of_its_own():
    fresh = KerasEngine(Linear(), (2,), None)
    data, start = valued(5, 2), weights(3)
    moved = [
        fresh.fit(start, data, LocalTraining(optimizer=Sgd(learning_rate=rate)), rng(CLIENTS[0])) for rate in (0.1, 0.2)
    ]
    half, whole = (fitted.params - start for fitted in moved)
    np.testing.assert_allclose(2 * half, whole, rtol=1e-4, atol=1e-6)


def test_scores_in_pieces_are_the_scores_in_one_go(monkeypatch: pytest.MonkeyPatch):
    data, start = classified(10, FEATURES, CLASSES), engine().init(0)
    whole = engine().score(start, data)
    monkeypatch.setattr(models.keras_engine, "_SCORED_ROWS", 3)
    pieces = engine().score(start, data)
    assert whole.keys() == pieces.keys() == {"loss", "accuracy"}
    for name, values in pieces.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-6, atol=1e-6)


def test_more_rows_than_fit_in_one_piece_are_scored_each_once():
    data, params = valued(5000, 2), weights(3)
    outputs = data.x.astype(np.float64) @ params[:2] + params[2]
    scores = KerasEngine(Linear(), (2,), None).score(params, data)
    np.testing.assert_allclose(scores["loss"], (outputs - data.y) ** 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scores["mae"], np.abs(outputs - data.y), rtol=1e-4, atol=1e-6)


def test_the_order_of_clients_tests_does_not_change_their_scores():
    start = engine().init(0)
    first, second = CLIENTS[4].train, CLIENTS[6].train
    both = engine().score(start, concatenate([first, second]))["loss"]
    turned = engine().score(start, concatenate([second, first]))["loss"]
    np.testing.assert_allclose(np.roll(turned, len(first)), both, rtol=1e-6, atol=1e-6)


ELSEWHERE = """
import numpy as np, tensorflow as tf
from federated.updates import digest
from tests.models.test_repeatable import trained_anywhere
print(digest(trained_anywhere()), tf.config.threading.get_intra_op_parallelism_threads())
"""


def trained_anywhere() -> np.ndarray:
    """A training from a seed to weights, wide enough for operations to be split over threads."""
    one = KerasEngine(Mlp(hidden=(256,)), (128,), 10)
    data = classified(512, 128, 10)
    work = LocalTraining(epochs=1, batch_size=128, optimizer=Sgd(learning_rate=0.1))
    return one.fit(one.init(3), data, work, np.random.default_rng(0)).params


def test_another_process_gives_the_same_bits_on_one_thread_an_operation(pytestconfig: pytest.Config):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    weights_there, threads_there = done.stdout.split()
    assert weights_there == digest(trained_anywhere())
    assert threads_there == "1"


def test_an_empty_last_piece_is_not_scored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(models.keras_engine, "_SCORED_ROWS", 5)
    data: Split = classified(10, FEATURES, CLASSES)
    assert engine().score(engine().init(0), data)["loss"].shape == (10,)
