"""Ways to train a cohort, timed one at a time: ``python -m benchmarks.contestants NAME MODEL ROUNDS``.

Each trains the same 10 of 100 clients a round, 600 images of Fashion-MNIST's shape each, batches of 10, one epoch of
SGD, and averages them. Says when each round is over; the first, in which programs are compiled, is one too many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.workload import BATCH, CLIENTS, COHORT, RATE, SHAPE, client_rows, keras_model, parameters
from configs.environment import workers
from models.specs import Cnn, Mlp

Cohort = Callable[[Any, Sequence[int]], Any]
"""Trains clients from a global model and gives the mean of what comes out."""


def textbook(model: str) -> tuple[Any, Cohort]:
    """A new model and ``fit`` for every client, as tutorials write it."""

    def train(params: list[Any], cohort: Sequence[int]) -> list[Any]:
        trained = []
        for client in cohort:
            net = keras_model(model)
            net.set_weights(params)
            net.fit(*client_rows(client), batch_size=BATCH, epochs=1, verbose=0)
            trained.append(net.get_weights())
        return [np.mean(weights, axis=0) for weights in zip(*trained, strict=True)]

    return keras_model(model).get_weights(), train


def one_model(model: str) -> tuple[Any, Cohort]:
    """One compiled model for all clients: ``set_weights`` and ``fit``."""
    net = keras_model(model)

    def train(params: list[Any], cohort: Sequence[int]) -> list[Any]:
        trained = []
        for client in cohort:
            net.set_weights(params)
            net.fit(*client_rows(client), batch_size=BATCH, epochs=1, verbose=0)
            trained.append(net.get_weights())
        return [np.mean(weights, axis=0) for weights in zip(*trained, strict=True)]

    return net.get_weights(), train


def floor(model: str) -> tuple[Any, Cohort]:
    """A loop written by hand for this one model and these sizes, clients side by side: nothing to choose or check."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    shapes = [weights.shape for weights in keras_model(model).get_weights()]
    sizes = [int(np.prod(shape)) for shape in shapes]
    forward = _two_nn if model == "2nn" else _cnn

    @tf.function(autograph=False, jit_compile=model == "2nn")
    def run(flat: Any, x: Any, y: Any, order: Any) -> Any:
        weights = [tf.reshape(piece, shape) for piece, shape in zip(tf.split(flat, sizes), shapes, strict=True)]

        def body(step: Any, weights: Any) -> Any:
            rows, labels = tf.gather(x, order[step]), tf.gather(y, order[step])
            with tf.GradientTape() as tape:
                tape.watch(weights)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, forward(weights, rows))
                loss = tf.reduce_mean(losses)
            found = tape.gradient(loss, weights)
            return step + 1, [before - RATE * gradient for before, gradient in zip(weights, found, strict=True)]

        _, weights = tf.while_loop(lambda step, _: step < tf.shape(order)[0], body, (0, weights))
        return tf.concat([tf.reshape(piece, [-1]) for piece in weights], axis=0)

    def one(params: Any, client: int) -> Any:
        x, y = client_rows(client)
        order = np.random.default_rng(client).permutation(len(x)).reshape(-1, BATCH).astype(np.int32)
        return run(params, x, y, order).numpy()

    return parameters(sizes), _side_by_side(lambda params, shard: [one(params, client) for client in shard])


def engine(model: str) -> tuple[Any, Cohort]:
    """Roundhouse's engine alone."""
    from federated.data import Client, Split
    from federated.engine import AS_ASKED
    from federated.local_optimizers import Sgd
    from federated.local_training import LocalTraining
    from models.keras_engine import KerasEngine

    keras_engine = KerasEngine(Mlp(hidden=(200, 200)) if model == "2nn" else Cnn(), SHAPE, 10)
    work = LocalTraining(batch_size=BATCH, optimizer=Sgd(learning_rate=RATE))
    splits = [Split(*client_rows(client)) for client in range(CLIENTS)]
    clients = [Client(str(number), rows, rows) for number, rows in enumerate(splits)]

    def shard(params: Any, members: Sequence[int]) -> list[Any]:
        rngs = [np.random.default_rng(member) for member in members]
        chosen = [clients[member] for member in members]
        fits = keras_engine.fit_cohort(params, chosen, work, rngs, [AS_ASKED] * len(members))
        return [fitted.params for fitted in fits]

    return keras_engine.init(0), _side_by_side(shard)


def _side_by_side(train_shard: Callable[[Any, Sequence[int]], list[Any]]) -> Cohort:
    threads = ThreadPoolExecutor(workers())

    def train(params: Any, cohort: Sequence[int]) -> Any:
        shards = [cohort[first :: workers()] for first in range(workers())]
        trained = threads.map(lambda shard: train_shard(params, shard), shards)
        return np.mean([vector for shard in trained for vector in shard], axis=0)

    return train


def _two_nn(weights: Any, rows: Any) -> Any:
    import tensorflow as tf

    hidden = tf.reshape(rows, [-1, 784])
    hidden = tf.nn.relu(hidden @ weights[0] + weights[1])
    hidden = tf.nn.relu(hidden @ weights[2] + weights[3])
    return hidden @ weights[4] + weights[5]


def _cnn(weights: Any, rows: Any) -> Any:
    import tensorflow as tf

    for kernel, bias in ((weights[0], weights[1]), (weights[2], weights[3])):
        rows = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(rows, kernel, 1, "SAME"), bias))
        rows = tf.nn.max_pool2d(rows, 2, 2, "VALID")
    hidden = tf.nn.relu(tf.reshape(rows, [-1, 7 * 7 * 64]) @ weights[4] + weights[5])
    return hidden @ weights[6] + weights[7]


CONTESTANTS = {"textbook": textbook, "one model": one_model, "floor": floor, "engine": engine}


def main() -> None:
    """Runs one of them."""
    name, model, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    for client in range(CLIENTS):
        client_rows(client)
    params, train = CONTESTANTS[name](model)
    for number in range(rounds + 1):
        cohort = np.random.default_rng(number).choice(CLIENTS, COHORT, replace=False)
        params = train(params, [int(client) for client in cohort])
        print("round", number, flush=True)


if __name__ == "__main__":
    main()
