"""Clients in lanes: the bits of one do not depend on who trains beside it."""

from functools import cache

import numpy as np
import pytest

from federated.data import Client, Split
from federated.engine import AS_ASKED, Fitted, Terms
from federated.errors import PlanError
from federated.local_optimizers import Adafactor, Adam, Sgd
from federated.local_training import LocalTraining
from models.keras_engine import KerasEngine
from models.specs import Gru, Linear, Mlp
from models.vectorized_loop import LANES
from tests.federated.families import LOCAL_OPTIMIZERS
from tests.models.samples import classified, valued

FEATURES, CLASSES = 6, 4
SIZES = [1, 2, 3, 5, 8, 9, 16, 17, 40, 100, *range(20, 45)]
WORK = LocalTraining(epochs=2, batch_size=8, optimizer=Adam(learning_rate=0.01))


def client(rows: int, seed: int) -> Client:
    data = classified(rows, FEATURES, CLASSES, seed)
    return Client(f"client-{seed}", data, data)


CLIENTS = [client(rows, seed) for seed, rows in enumerate(SIZES)]


@cache
def engine(how: str = "auto") -> KerasEngine:
    return KerasEngine(Mlp(hidden=(7,)), (FEATURES,), CLASSES, how)


def cohort(clients: list[Client], work: LocalTraining = WORK, terms: dict[str, Terms] | None = None, how: str = "auto"):
    """Every client's training, by name."""
    rngs = [np.random.default_rng(len(one.train)) for one in clients]
    own = [(terms or {}).get(one.name, AS_ASKED) for one in clients]
    fits = engine(how).fit_cohort(engine(how).init(0), clients, work, rngs, own)
    return dict(zip([one.name for one in clients], fits, strict=True))


def same(first: Fitted, second: Fitted) -> bool:
    return first.params.tobytes() == second.params.tobytes() and first.metrics == second.metrics


def test_small_dense_models_train_in_lanes() -> None:
    assert engine().compilation == "vectorized"
    assert len(CLIENTS) > 2 * LANES


@pytest.mark.parametrize("batch_size", [8, 1, None])
def test_bits_do_not_depend_on_the_cohort_nor_on_the_place_in_it(batch_size) -> None:
    work = WORK.model_copy(update={"batch_size": batch_size})
    everyone = cohort(CLIENTS, work)
    backwards = cohort(CLIENTS[::-1], work)
    some = cohort(CLIENTS[3::4], work)
    for one in CLIENTS:
        assert same(backwards[one.name], everyone[one.name])
    for name, fitted in some.items():
        assert same(fitted, everyone[name])


def test_a_client_alone_has_the_same_bits() -> None:
    everyone, start = cohort(CLIENTS), engine().init(0)
    for one in CLIENTS[::5]:
        alone = engine().fit(start, one.train, WORK, np.random.default_rng(len(one.train)))
        assert same(alone, everyone[one.name])


def bits_by_lane(one: KerasEngine, inputs: tuple[int, ...], classes: int | None, work: LocalTraining) -> set[bytes]:
    """What comes out for the same client in every lane, beside others of many sizes, and alone."""
    rng = np.random.default_rng(0)

    def data(rows: int) -> Client:
        x = rng.normal(size=(rows, *inputs)).astype(np.float32)
        y = rng.normal(size=rows) if classes is None else rng.integers(0, classes, rows)
        split = Split(x, y.astype(np.float32 if classes is None else np.int32))
        return Client("someone", split, split)

    same_one, others = data(50), [data(rows) for rows in (3, 60, 41)]
    clients = [same_one if number % 4 else others[number % 3] for number in range(3 * LANES)]
    rngs = [np.random.default_rng(1) for _ in clients]
    fits = one.fit_cohort(one.init(0), clients, work, rngs, [AS_ASKED] * len(clients))
    bits = {fitted.params.tobytes() for client, fitted in zip(clients, fits, strict=True) if client is same_one}
    return bits | {one.fit(one.init(0), same_one.train, work, np.random.default_rng(1)).params.tobytes()}


@pytest.mark.parametrize("batch", [1, 7, 16, 32, None])
@pytest.mark.parametrize(
    ("inputs", "hidden", "classes"),
    [
        ((8, 8, 1), (8,), 10),
        ((64,), (64,), 10),
        ((30,), (17, 5), 2),
        ((13,), (), 3),
        ((5,), (3,), None),
        ((99,), (33,), 7),
    ],
    ids=str,
)
def test_no_lane_differs_from_another_in_a_bit(inputs, hidden, classes, batch) -> None:
    one = KerasEngine(Mlp(hidden=hidden), inputs, classes, "vectorized")
    work = LocalTraining(epochs=2, batch_size=batch, optimizer=Sgd(learning_rate=0.05))
    assert len(bits_by_lane(one, inputs, classes, work)) == 1


@pytest.mark.parametrize(
    "clip",
    [
        {},
        {"global_clipnorm": 0.1},
        pytest.param({"clipnorm": 0.1}, marks=pytest.mark.slow),
        pytest.param({"clipvalue": 0.01}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "optimizer", [one for one in LOCAL_OPTIMIZERS if one.kind != "custom"], ids=lambda one: one.kind
)
def test_no_lane_differs_whatever_the_optimizer(optimizer, clip) -> None:
    """Those that would differ are not given lanes."""
    one = KerasEngine(Mlp(hidden=(64,)), (8, 8, 1), 10)
    work = LocalTraining(epochs=2, batch_size=16, optimizer=optimizer.model_copy(update=clip))
    one.prepare(work)
    if clip and one.compilation == "graph":
        pytest.skip("it trains one client after the other")
    assert len(bits_by_lane(one, (8, 8, 1), 10, work)) == 1


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (LocalTraining(optimizer=Adafactor()), "the optimizer adafactor"),
        (LocalTraining(clip_examples=1.0), "clip_examples"),
    ],
    ids=["adafactor", "clip_examples"],
)
def test_what_lanes_do_not_take_is_a_graph_and_recorded_as_one(work, what) -> None:
    one = KerasEngine(Mlp(hidden=(8,)), (5,), 3)
    one.prepare(work)
    assert one.compilation == "graph"
    asked = KerasEngine(Mlp(hidden=(8,)), (5,), 3, "vectorized")
    with pytest.raises(PlanError, match=f"compilation: vectorized does not take {what}; use graph or auto"):
        asked.prepare(work)


def test_clipping_by_example_in_recurrent_layers_is_a_graph() -> None:
    work = LocalTraining(clip_examples=1.0)
    one = KerasEngine(Gru(units=3), (5,), 3)
    one.prepare(work)
    assert one.compilation == "graph"
    with pytest.raises(PlanError, match="compilation: xla does not take clip_examples with recurrent layers"):
        KerasEngine(Gru(units=3), (5,), 3, "xla").prepare(work)


def test_lanes_agree_with_one_client_after_the_other() -> None:
    terms = {
        one.name: Terms(steps=1 + number % 7, factor=1 / (1 + number % 3), proximal=0.3)
        for number, one in enumerate(CLIENTS)
    }
    lanes, plain = cohort(CLIENTS, WORK, terms), cohort(CLIENTS, WORK, terms, "graph")
    for name, fitted in lanes.items():
        np.testing.assert_allclose(fitted.params, plain[name].params, rtol=0, atol=2e-6)
        assert fitted.metrics == pytest.approx(plain[name].metrics, rel=1e-5)


def test_clients_that_stop_early_keep_their_linear_term_and_their_steps() -> None:
    """Descent by hand for two clients in the same lanes, one of which takes a single step."""
    data = [valued(6, 2, seed) for seed in (0, 1)]
    one = KerasEngine(Linear(), (2,), None)
    linear = [np.array(values, np.float32) for values in ([0.5, -1.0, 2.0], [0.0, 0.3, 0.1])]
    terms = [Terms(steps=steps, linear=own) for steps, own in zip((1, 9), linear, strict=True)]
    work = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=0.05))
    clients = [Client(str(number), split, split) for number, split in enumerate(data)]
    start = one.init(2)
    fits = one.fit_cohort(start, clients, work, [np.random.default_rng(0)] * 2, terms)
    for split, own, fitted in zip(data, terms, fits, strict=True):
        params, design = start.astype(np.float64), np.column_stack([split.x, np.ones(6)])
        for _ in range(own.steps):
            params = params - 0.05 * (2 * design.T @ (design @ params - split.y) / 6 + own.linear)
        np.testing.assert_allclose(fitted.params, params, atol=1e-5)


def test_a_client_with_many_rows_goes_alone_and_fits_in_between() -> None:
    many = [CLIENTS[10], client(1500, 77), CLIENTS[11]]
    lanes, plain = cohort(many), cohort(many, how="graph")
    assert same(lanes["client-77"], plain["client-77"])
    assert same(lanes[CLIENTS[11].name], cohort([CLIENTS[11]])[CLIENTS[11].name])


def test_one_that_blows_up_does_not_touch_its_neighbours() -> None:
    broken = Client("broken", Split(np.full((20, FEATURES), 1e38, np.float32), CLIENTS[10].train.y), CLIENTS[10].test)
    together = cohort([CLIENTS[10], broken, CLIENTS[11]])
    assert not np.isfinite(together["broken"].params).all()
    for one in CLIENTS[10:12]:
        assert same(together[one.name], cohort(CLIENTS)[one.name])
