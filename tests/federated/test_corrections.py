"""Clients whose data differ: what each correction does about it, on quadratics whose optimum is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from federated.algorithm import Algorithm
from federated.component import Vector
from federated.corrections import CONTROL, FedDyn, FedProx, NoCorrection, Scaffold
from federated.data import Client, Split
from federated.errors import PlanError, StageError
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from federated.loop import one_round
from federated.rounds import (
    Memories,
    broadcast,
    client_half,
    initial_state,
    local_updates,
    select,
    server_half,
)
from federated.rules import FedNova, Mean, WeightedMean
from federated.selectors import Uniform
from federated.work import PerClient
from tests.fakes import FakeEngine, line_client, plain_sgd
from tests.federated.families import CORRECTIONS

each_correction = pytest.mark.parametrize("correction", CORRECTIONS, ids=repr)


def quadratic(name: str, seed: int, rows: int = 12) -> Client:
    """A client with a least-squares problem of its own: another slope, intercept and spread."""
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(), 0.3 + rng.random(), (rows, 1)).astype(np.float32)
    y = (x[:, 0] * rng.normal(0, 2) + rng.normal(0, 2)).astype(np.float32)
    return Client(name, Split(x, y), Split(x, y))


CLIENTS = [quadratic(name, seed) for seed, name in enumerate("abcd")]


def optimum(clients: list[Client]) -> np.ndarray:
    """Least squares on the pooled rows, by NumPy."""
    x = np.concatenate([client.train.x for client in clients]).astype(np.float64)
    design = np.column_stack([x, np.ones(len(x))])
    return np.linalg.lstsq(design, np.concatenate([client.train.y for client in clients]), rcond=None)[0]


NAMED = {client.name: client for client in CLIENTS}


def trained(algorithm: Algorithm, rounds: int, clients: Sequence[Client] = CLIENTS) -> Vector:
    state, memories = initial_state(algorithm, FakeEngine(), len(clients)), Memories()
    named = {client.name: client for client in clients}
    for _ in range(rounds):
        state, learnt, *_ = one_round(algorithm, FakeEngine(), state, named, memories)
        memories |= learnt
    return state.params


def cohort_of(algorithm: Algorithm, number: int) -> tuple[str, ...]:
    return select(algorithm, FakeEngine(), number, np.zeros(2, np.float32), NAMED).cohort


def descent(steps: int = 20, **parts) -> Algorithm:
    """Many steps on all rows: local optima pull."""
    local = LocalTraining(steps=steps, batch_size=None, optimizer=Sgd(learning_rate=0.05))
    return Algorithm(rule=Mean(), local=local, **parts)


def distance(params: Vector) -> float:
    return float(np.abs(params - optimum(CLIENTS)).max())


def test_federated_averaging_does_not_end_at_the_pooled_optimum():
    assert distance(trained(descent(), rounds=400)) > 0.05


@pytest.mark.parametrize("correction", [Scaffold(), FedDyn(alpha=1.0)], ids=repr)
def test_scaffold_and_feddyn_end_at_the_pooled_optimum(correction):
    assert distance(trained(descent(correction=correction), rounds=400)) < 1e-3


@pytest.mark.parametrize("correction", [Scaffold(), FedDyn(alpha=1.0)], ids=repr)
def test_they_do_so_when_half_of_the_clients_take_part(correction):
    algorithm = descent(correction=correction, select=Uniform(cohort=2))
    assert distance(trained(algorithm, rounds=1500)) < 5e-3


def test_fedprox_keeps_clients_nearer_to_the_global_model_the_larger_mu_is():
    def moved(mu: float) -> float:
        algorithm = descent(correction=FedProx(mu=mu))
        sent = broadcast(algorithm, initial_state(algorithm, FakeEngine(), 4))
        return float(np.linalg.norm(client_half(algorithm, FakeEngine(), sent, CLIENTS[0]).update.delta))

    moves = [moved(mu) for mu in (0.0, 0.1, 1.0, 10.0)]
    assert moves == sorted(moves, reverse=True)
    assert moves[-1] < moves[0] / 3


@pytest.mark.parametrize("transforms", [(), ({"kind": "clip", "norm": 0.5},)])
def test_fedprox_without_its_term_is_federated_averaging_bit_for_bit(transforms):
    one, other = (
        Algorithm.model_validate({"local": plain_sgd(batch_size=5), "correction": correction, "transforms": transforms})
        for correction in (FedProx(mu=0.0), NoCorrection())
    )
    assert trained(one, 5).tobytes() == trained(other, 5).tobytes()


def test_feddyn_is_the_papers_algorithm():
    """Algorithm 1 of Acar et al. 2021 by hand, with its local objective's gradients."""
    alpha, algorithm = 0.5, descent(steps=3, correction=FedDyn(alpha=0.5), select=Uniform(cohort=2))
    start = initial_state(algorithm, FakeEngine(), 4).params.astype(np.float64)
    x, h, own = start, np.zeros(2), {client.name: np.zeros(2) for client in CLIENTS}
    for number in range(1, 6):
        cohort = cohort_of(algorithm, number)
        local = {}
        for client in (c for c in CLIENTS if c.name in cohort):
            w, design = x.copy(), np.column_stack([client.train.x.astype(np.float64), np.ones(12)])
            for _ in range(3):
                slope = 2 * design.T @ (design @ w - client.train.y) / 12
                w = w - 0.05 * (slope - own[client.name] + alpha * (w - x))
            own[client.name] = own[client.name] - alpha * (w - x)
            local[client.name] = w
        h = h - alpha * sum(w - x for w in local.values()) / 4
        x = np.mean(list(local.values()), axis=0) - h / alpha
    np.testing.assert_allclose(trained(algorithm, 5), x, atol=1e-4)


def test_scaffold_is_the_papers_algorithm():
    """Algorithm 1 of Karimireddy et al. 2020 by hand, option II."""
    algorithm = descent(steps=3, correction=Scaffold(), select=Uniform(cohort=2))
    x = initial_state(algorithm, FakeEngine(), 4).params.astype(np.float64)
    c, own = np.zeros(2), {client.name: np.zeros(2) for client in CLIENTS}
    for number in range(1, 6):
        cohort = cohort_of(algorithm, number)
        moves, changes = [], []
        for client in (found for found in CLIENTS if found.name in cohort):
            y, design = x.copy(), np.column_stack([client.train.x.astype(np.float64), np.ones(12)])
            for _ in range(3):
                y = y - 0.05 * (2 * design.T @ (design @ y - client.train.y) / 12 - own[client.name] + c)
            after = own[client.name] - c + (x - y) / (3 * 0.05)
            moves.append(y - x)
            changes.append(after - own[client.name])
            own[client.name] = after
        x, c = x + np.mean(moves, axis=0), c + np.sum(changes, axis=0) / 4
    np.testing.assert_allclose(trained(algorithm, 5), x, atol=1e-4)


def uneven(rule) -> Vector:
    """Two clients, one of which does eight times as many steps."""
    work = PerClient(epochs={"a": 16, "b": 2})
    local = LocalTraining(batch_size=None, optimizer=Sgd(learning_rate=0.005), work=work)
    return trained(Algorithm(rule=rule, local=local), 800, CLIENTS[:2])


def test_fednova_ends_near_the_pooled_optimum_where_clients_do_not_do_the_same():
    expected = optimum(CLIENTS[:2])
    nova, averaged = (np.abs(uneven(rule) - expected).max() for rule in (FedNova(), WeightedMean()))
    assert nova < averaged / 3


def test_only_corrections_with_a_memory_keep_one_and_it_is_not_sent():
    for correction in CORRECTIONS:
        algorithm = descent(correction=correction)
        sent = broadcast(algorithm, initial_state(algorithm, FakeEngine(), 4))
        update, memory = client_half(algorithm, FakeEngine(), sent, CLIENTS[0])
        assert bool(memory) == (correction.fresh(2) is not None)
        assert set(update.extras) == ({CONTROL} if correction == Scaffold() else set())


@each_correction
def test_the_order_of_the_clients_changes_no_bit(correction):
    algorithm = descent(correction=correction)
    there, back = trained(algorithm, 4), trained(algorithm, 4, CLIENTS[::-1])
    assert there.tobytes() == back.tobytes()


@each_correction
def test_a_correction_leaves_its_arguments_as_they_were(correction):
    algorithm = descent(correction=correction)
    state = initial_state(algorithm, FakeEngine(), 4)
    state, memories, *_ = one_round(algorithm, FakeEngine(), state, NAMED, {})
    kept = {name: {use: vector.copy() for use, vector in memory.items()} for name, memory in memories.items()}
    sent = broadcast(algorithm, state)
    down = None if sent.extra is None else sent.extra.copy()
    updates = [client_half(algorithm, FakeEngine(), sent, c, memories.get(c.name)).update for c in CLIENTS]
    server_half(algorithm, state, updates)
    for name, memory in memories.items():
        for use, vector in memory.items():
            np.testing.assert_array_equal(vector, kept[name][use])
    np.testing.assert_array_equal(sent.extra, down)


def test_only_scaffold_sends_more_than_the_model():
    for correction in CORRECTIONS:
        algorithm = descent(correction=correction)
        state = initial_state(algorithm, FakeEngine(), 4)
        times = 2 if correction == Scaffold() else 1
        assert broadcast(algorithm, state).nbytes == times * state.params.nbytes


def test_fednova_and_moving_statistics_are_refused():
    algorithm = Algorithm(rule=FedNova(), local=plain_sgd())
    with pytest.raises(PlanError, match="fednova cannot average what no gradient moves"):
        initial_state(algorithm, FakeEngine(statistics=1), 2)
    initial_state(algorithm, FakeEngine(), 2)


class Broken(FakeEngine):
    """Runs out of memory on one client."""

    def fit(self, params, data, work, rng, terms):
        if len(data) == 13:
            raise MemoryError("no room for 13 rows\nand more")
        return super().fit(params, data, work, rng, terms)


def test_an_error_in_local_training_names_client_round_and_stage():
    algorithm = Algorithm(local=plain_sgd())
    clients = [line_client("a"), line_client("b", rows=13)]
    sent = broadcast(algorithm, initial_state(algorithm, Broken(), 2)._replace(round=6))
    with pytest.raises(StageError) as caught:
        list(local_updates(algorithm, Broken(), sent, clients, [{}, {}]))
    assert str(caught.value) == "round 7, client b, local training: no room for 13 rows"
    assert isinstance(caught.value.__cause__, MemoryError)


class Together(Broken):
    """Trains all of its clients before it gives the first, as lanes do."""

    def fit_cohort(self, params, clients, work, rngs, terms):
        yield from list(super().fit_cohort(params, clients, work, rngs, terms))


def test_of_clients_that_train_together_the_one_that_fails_is_named():
    algorithm = Algorithm(local=plain_sgd())
    clients = [line_client("a"), line_client("b"), line_client("c", rows=13), line_client("d")]
    sent = broadcast(algorithm, initial_state(algorithm, Together(), 4))
    with pytest.raises(StageError, match=r"^round 1, client c, local training: no room for 13 rows$"):
        list(local_updates(algorithm, Together(), sent, clients, [{}] * 4))


class Tangled(Together):
    """Each client trains well alone."""

    def fit_cohort(self, params, clients, work, rngs, terms):
        raise RuntimeError("Graph execution error:\n\nDetected at node x\n  File y\nno room for all of them\n[[z]]")
        yield


def test_where_none_fails_alone_the_group_is_named_and_what_tensorflow_says_last():
    algorithm, clients = Algorithm(local=plain_sgd()), [line_client(name) for name in "abc"]
    sent = broadcast(algorithm, initial_state(algorithm, Tangled(), 3))
    with pytest.raises(StageError, match=r"^round 1, client a … c, local training: no room for all of them$"):
        list(local_updates(algorithm, Tangled(), sent, clients, [{}] * 3))
