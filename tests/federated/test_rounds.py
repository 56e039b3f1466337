"""One round: the onion, the moving statistics, the randomness, and who is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.component import Step
from federated.data import Client
from federated.engine import Fitted
from federated.errors import StageError, TrainingError
from federated.onion import Trained, encode
from federated.randomness import generator
from federated.rounds import (
    Broadcast,
    ServerState,
    client_half,
    initial_state,
    local_updates,
    select,
    server_half,
)
from federated.rules import CustomRule, Mean, Rule
from federated.selectors import Uniform
from federated.server_optimizers import ServerOptimizer, ServerSgd
from federated.transforms import Clip, Transform
from federated.updates import Update, l2_norm, screen
from tests.fakes import FakeEngine, line_client, plain_sgd, update
from tests.federated.families import USER_CODE


class Layer(Transform):
    """x ↦ ``times`` · x + ``plus`` on the client, undone on the server; writes down what it does.

    Its state counts finishes from the size that it was given, and 100 on for each ``plus``.
    """

    name: str
    log: Any
    times: float = 1.0
    plus: float = 0.0

    def init(self, size: int) -> int:
        return size + 100 * int(self.plus)

    def encode(self, update, layers, rng):
        self.log.append(("encode", self.name, rng.random()))
        return replace(update, delta=np.float32(self.times) * update.delta + np.float32(self.plus))

    def decode(self, update, size, rng):
        self.log.append(("decode", self.name, None))
        delta = (update.delta - np.float32(self.plus)) / np.float32(self.times)
        return replace(update, delta=delta)

    def finish(self, state, aggregate, updates, rng, share):
        self.log.append(("finish", self.name, rng.random()))
        self.log.append(("cohort", tuple(update.client for update in updates), state))
        metrics = {f"{self.name}_saw": float(len(aggregate))}
        return Step(state + 1, np.float32(self.times) * aggregate + np.float32(self.plus), metrics)


def with_layers(algorithm: Algorithm, *layers: Transform) -> Algorithm:
    return algorithm.model_copy(update={"transforms": layers})


def calls(log, *kinds) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name, _ in log if kind in kinds]


def state_of(algorithm: Algorithm, params, trainable: int) -> ServerState:
    params = np.asarray(params, np.float32)
    return ServerState(
        0,
        params,
        trainable,
        algorithm.rule.init(len(params)),
        algorithm.server.init(params[:trainable]),
        None,
        tuple(layer.init(trainable) for layer in algorithm.transforms),
    )


def sent_by(algorithm: Algorithm, round: int, trainable: int, one: Update) -> Update:
    """What a client sends of an update, by a model of one layer."""
    return encode(algorithm, round, (trainable,), Trained(one, {})).update


ADD_THEN_DOUBLE = ({"name": "add", "plus": 1.0}, {"name": "double", "times": 2.0})


def onion(log) -> Algorithm:
    return with_layers(Algorithm(), *(Layer(log=log, **fields) for fields in ADD_THEN_DOUBLE))


def test_a_client_encodes_in_the_order_of_the_list() -> None:
    log: list = []
    encoded = sent_by(onion(log), 1, 2, update("a", [3.0, -1.0]))
    assert calls(log, "encode") == [("encode", "add"), ("encode", "double")]
    assert encoded.delta.tolist() == [8.0, 0.0]


def test_the_server_decodes_and_finishes_in_reverse() -> None:
    log: list = []
    algorithm = onion(log)
    sent = [sent_by(algorithm, 1, 2, update(name, [3.0, -1.0])) for name in "ba"]
    log.clear()
    after, metrics = server_half(algorithm, state_of(algorithm, [0, 0], 2), sent)
    each = [("decode", "double"), ("decode", "add")]
    assert calls(log, "decode", "finish") == [*each, *each, ("finish", "double"), ("finish", "add")]
    assert after.params.tolist() == [3.0 * 2 + 1, -1.0 * 2 + 1]
    assert metrics["add_saw"] == metrics["double_saw"] == 2.0


def test_finishing_knows_the_cohort_in_order_and_carries_its_state() -> None:
    log: list = []
    algorithm = onion(log)
    state = state_of(algorithm, [0, 0, 9], 2)
    for _ in range(2):
        sent = [sent_by(algorithm, 1, 2, update(name, [1.0, 1.0, 1.0])) for name in "cab"]
        state, _ = server_half(algorithm, state, sent)
    assert [entry[1:] for entry in log if entry[0] == "cohort"] == [
        (("a", "b", "c"), 2),
        (("a", "b", "c"), 102),
        (("a", "b", "c"), 3),
        (("a", "b", "c"), 103),
    ]
    assert state.transforms == (104, 4)
    assert state.round == 2


def test_every_use_of_randomness_has_its_own_stream() -> None:
    log: list = []
    for seed in (0, 1):
        algorithm = onion(log).model_copy(update={"seed": seed})
        state = state_of(algorithm, [0], 1)
        for turn in (1, 2):
            sent = [sent_by(algorithm, turn, 1, update(name, [1.0])) for name in "ab"]
            state, _ = server_half(algorithm, state, sent)
    drawn = [draw for kind, _, draw in log if kind in ("encode", "finish")]
    assert len(set(drawn)) == len(drawn) == 2 * 2 * (2 * 2 + 2)


class Drawing(FakeEngine):
    """Draws once for every client, and trains nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[float] = []

    def fit(self, params, data, work, rng, terms):
        self.drawn.append(rng.random())
        return Fitted(params, {})


def test_local_training_draws_by_seed_round_and_client() -> None:
    engine = Drawing()
    for seed in (0, 1):
        for turn in (1, 2):
            for name in ("a", "b"):
                client_half(Algorithm(seed=seed), engine, Broadcast(turn, engine.init(0), None), line_client(name))
    assert len(set(engine.drawn)) == len(engine.drawn) == 8


def test_cohorts_differ_from_round_to_round_and_come_again_with_the_seed() -> None:
    clients = [f"client-{n:02}" for n in range(30)]
    algorithm = Algorithm(seed=3, select=Uniform(cohort=5))
    there, back = ({name: line_client(name) for name in names} for names in (clients, clients[::-1]))

    def cohort(algorithm: Algorithm, turn: int, clients: dict[str, Client]) -> tuple[str, ...]:
        return select(algorithm, FakeEngine(), turn, np.zeros(2, np.float32), clients).cohort

    cohorts = [cohort(algorithm, turn, there) for turn in range(1, 6)]
    assert len(set(cohorts)) == 5
    assert cohorts == [cohort(algorithm, turn, back) for turn in range(1, 6)]
    assert cohort(Algorithm(seed=4, select=Uniform(cohort=5)), 1, there) != cohorts[0]


def trained(algorithm: Algorithm, engine: FakeEngine, sent: Broadcast, client: Client) -> Update:
    """The client's update before any transform."""
    (found,) = local_updates(algorithm, engine, sent, [client], [{}])
    return found.update


def test_a_local_update_is_what_training_changed_weighed_by_training_rows() -> None:
    engine, client = FakeEngine(statistics=1), line_client("a", rows=11)
    params = engine.init(0)
    changed = trained(Algorithm(local=plain_sgd()), engine, Broadcast(1, params, None), client)
    fitted = engine.fit(params, client.train, plain_sgd(), generator(0, 1, "local", "a"))
    np.testing.assert_array_equal(changed.delta, fitted.params - params)
    assert (changed.client, changed.weight, changed.metrics) == ("a", 11.0, fitted.metrics)


def test_a_clients_half_does_not_depend_on_who_went_before() -> None:
    engine, algorithm = FakeEngine(statistics=2), Algorithm(local=plain_sgd(batch_size=2))
    clients = [line_client(name, seed=seed) for seed, name in enumerate("abcd")]
    first, second = (Broadcast(turn, engine.init(0), None) for turn in (1, 2))
    there = {c.name: client_half(algorithm, engine, first, c).update for c in clients}
    back = {c.name: client_half(algorithm, engine, first, c).update for c in reversed(clients)}
    for name, sent in there.items():
        np.testing.assert_array_equal(sent.delta, back[name].delta)
        assert sent.metrics == back[name].metrics
    later = client_half(algorithm, engine, second, clients[0]).update
    assert not np.array_equal(later.delta, there["a"].delta)


def test_a_clients_half_is_training_then_encoding() -> None:
    engine, client = FakeEngine(statistics=2), line_client("a")
    algorithm = Algorithm(seed=5, local=plain_sgd(), transforms=(Clip(norm=0.01),))
    down = Broadcast(3, engine.init(0), None)
    expected = sent_by(algorithm, 3, engine.trainable, trained(algorithm, engine, down, client))
    sent = client_half(algorithm, engine, down, client).update
    np.testing.assert_array_equal(sent.delta, expected.delta)
    assert sent.metrics == expected.metrics
    assert l2_norm(sent.delta) == pytest.approx(0.01)


def test_moving_statistics_pass_transforms_untouched_on_their_way_up() -> None:
    algorithm = Algorithm(transforms=(Clip(norm=1e-3),))
    sent = sent_by(algorithm, 1, 2, update("a", [3.0, 4.0, 100.0, -7.0]))
    assert sent.extras["statistics"].tolist() == [100.0, -7.0]
    assert l2_norm(sent.delta) == pytest.approx(1e-3)
    assert sent.metrics["update_norm"] == 5.0


def test_moving_statistics_are_averaged_by_the_rule_and_by_nothing_else() -> None:
    log: list = []
    layers = [Layer(log=log, **fields) for fields in ADD_THEN_DOUBLE]
    algorithm = with_layers(Algorithm(server=ServerSgd(learning_rate=0.5)), *layers)
    plain = [update("a", [1.0, 10.0, -4.0], 1.0), update("b", [3.0, 20.0, 8.0], 3.0)]
    sent = [sent_by(algorithm, 1, 1, one) for one in plain]
    after, metrics = server_half(algorithm, state_of(algorithm, [5, 100, 200], 1), sent)
    average = np.average([[1, 10, -4], [3, 20, 8]], axis=0, weights=[1, 3])
    assert after.params[1:].tolist() == [100 + average[1], 200 + average[2]]
    assert after.params[0] == 5 + 0.5 * (2 * average[0] + 1)
    assert metrics["aggregate_norm"] == 2 * average[0] + 1
    assert after.trainable == 1


def test_the_order_in_which_updates_arrive_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    sent = [
        update(f"client-{n:02}", rng.normal(size=50) * 10.0 ** rng.integers(-6, 6), float(n + 1)) for n in range(20)
    ]
    algorithm = Algorithm(transforms=(Clip(norm=1e4),))
    state = state_of(algorithm, np.zeros(50), 48)
    sent = [sent_by(algorithm, 1, 48, one) for one in sent]
    expected, expected_metrics = server_half(algorithm, state, sent)
    for seed in range(10):
        shuffled = [sent[i] for i in np.random.default_rng(seed).permutation(len(sent))]
        after, metrics = server_half(algorithm, state, shuffled)
        np.testing.assert_array_equal(after.params, expected.params)
        assert metrics == expected_metrics
    plain = algorithm.rule.next(None, sent).result
    assert any(
        not np.array_equal(algorithm.rule.next(None, sent[k:] + sent[:k]).result, plain) for k in range(1, 20)
    ), "these numbers could not tell"


def test_the_servers_half_leaves_the_old_state_as_it_was() -> None:
    algorithm = Algorithm()
    state = state_of(algorithm, [1.0, 2.0], 1)
    server_half(algorithm, state, [sent_by(algorithm, 1, 1, update("a", [1.0, 1.0]))])
    assert (state.round, state.params.tolist()) == (0, [1.0, 2.0])


class Steps(ServerOptimizer):
    """Takes the delta as it is; its state counts steps from the size that it was given."""

    def init(self, params):
        return len(params)

    def next(self, round, state, params, delta):
        return Step(state + 1, params + delta, {"steps": 1.0})


def test_rule_server_optimizer_and_transforms_start_with_the_sizes_that_are_theirs() -> None:
    rule = CustomRule(target=f"{USER_CODE}:Median")
    layers = (Layer(name="layer", log=[]),)
    parts = {"server": Steps(), "transforms": layers}
    algorithm = Algorithm(seed=9, rule=rule).model_copy(update=parts)
    engine = FakeEngine(features=3, statistics=2)
    state = initial_state(algorithm, engine, 1)
    np.testing.assert_array_equal(state.params, engine.init(9))
    assert (state.round, state.trainable) == (0, 4)
    assert (state.rule, state.server) == (6, 4)
    assert state.transforms == (4,)
    after, metrics = server_half(algorithm, state, [sent_by(algorithm, 1, 4, update("a", np.zeros(6)))])
    assert (after.rule, after.server, after.transforms) == (7, 5, (5,))
    assert metrics["rows"] == metrics["steps"] == 1.0


@pytest.mark.parametrize("place", ["weights", "moving statistics", "number of examples"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_updates_that_are_not_finite_are_left_out_by_name(place, wrong) -> None:
    delta = [wrong if place == "weights" else 1.0, wrong if place == "moving statistics" else 1.0]
    bad = [update(name, delta, wrong if place == "number of examples" else 1.0) for name in ("zebra", "ant")]
    good = [update("b", [1.0, 2.0]), update("a", [3.0, 4.0])]
    screened = screen(4, [bad[0], *good, bad[1]], quorum=2)
    assert screened.updates == tuple(good)
    assert screened.left_out == ("ant", "zebra")


def test_too_few_usable_updates_end_the_training_naming_round_and_clients() -> None:
    sent = [update("b", [np.nan]), update("ok", [1.0]), update("a", [np.inf])]
    expected = (
        "round 4: 1 usable updates, quorum is 2; NaN or infinity from a, b; "
        "lower algorithm.local.optimizer.learning_rate"
    )
    with pytest.raises(TrainingError, match=expected):
        screen(4, sent, quorum=2)


def test_too_few_updates_without_a_wrong_number_blame_nobody() -> None:
    with pytest.raises(TrainingError, match=r"quorum is 2; NaN or infinity from nobody$"):
        screen(1, [update("a", [1.0])], quorum=2)


def test_a_rule_without_updates_is_told_by_the_servers_half() -> None:
    algorithm = Algorithm(rule=Mean())
    with pytest.raises(ValueError, match="mean needs at least 1 update, got 0"):
        server_half(algorithm, state_of(algorithm, [0.0], 1), [])


class Halved(Transform):
    """Sends every second number, and puts zeros in the gaps on the server."""

    def encode(self, update, layers, rng):
        return replace(update, delta=update.delta[::2])

    def decode(self, update, size, rng):
        delta = np.zeros(2 * len(update.delta), np.float32)
        delta[::2] = update.delta
        return replace(update, delta=delta)


def test_a_transform_may_shorten_what_is_sent_beside_moving_statistics() -> None:
    algorithm = with_layers(Algorithm(), Halved())
    sent = sent_by(algorithm, 1, 4, update("a", [1.0, 2.0, 3.0, 4.0, 70.0, 80.0]))
    after, _ = server_half(algorithm, state_of(algorithm, np.zeros(6), 4), [sent])
    assert after.params.tolist() == [1.0, 0.0, 3.0, 0.0, 70.0, 80.0]


class Short(Rule):
    """Loses the last entry."""

    def next(self, state, updates):
        return Step(state, np.mean([one.delta[:-1] for one in updates], axis=0, dtype=np.float32), {})


def test_a_rule_that_gives_another_shape_is_told_with_the_round() -> None:
    algorithm = Algorithm().model_copy(update={"rule": Short()})
    with pytest.raises(TrainingError, match=r"^round 1: the rule gave shape \(1,\), expected \(2,\)$"):
        server_half(algorithm, state_of(Algorithm(), [0, 0], 2), [update("a", [1.0, 2.0])])


class Failing(Transform):
    """Divides by zero."""

    def encode(self, update, layers, rng):
        raise ZeroDivisionError("division by zero")


def test_an_error_in_a_transform_names_client_round_and_stage() -> None:
    algorithm = with_layers(Algorithm(), Failing())
    with pytest.raises(StageError, match=r"^round 4, client a, transforms\.0: division by zero$"):
        sent_by(algorithm, 4, 1, update("a", [1.0]))
