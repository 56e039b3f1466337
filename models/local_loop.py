"""Local training as one graph: every epoch and batch of a client in a single call."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from federated.local_optimizers import AnyLocalOptimizer
from models.layout import Layout
from models.objectives import Objective
from models.stateless_optimizers import fresh_slots, stateless_optimizer


class LocalLoop:
    """Stochastic gradient descent on one client's rows, compiled once for any number of rows, epochs and batches.

    Batches have their true size: nothing is padded, and a last batch may be smaller.
    """

    def __init__(
        self,
        model: keras.Model,
        layout: Layout,
        objective: Objective,
        rows: list[tf.TensorSpec],
        optimizer: AnyLocalOptimizer,
    ) -> None:
        self._model, self._layout, self._objective = model, layout, objective
        self._optimizer = stateless_optimizer(optimizer, model)
        self._fresh_slots = fresh_slots(self._optimizer)
        self.run = tf.function(
            self._run,
            autograph=False,
            input_signature=[
                tf.TensorSpec([layout.size], tf.float32),
                *rows,
                tf.TensorSpec([None, None], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([layout.states, 2], tf.int32),
            ],
        )

    def _run(self, params: Any, x: Any, y: Any, order: Any, batch: Any, seeds: Any) -> Any:
        """``order`` (epochs, rows) says which row comes when. Gives the vector and the last epoch's mean loss."""
        epochs, rows = tf.shape(order)[0], tf.shape(order)[1]
        steps = (rows + batch - 1) // batch
        trainable, state = self._layout.unpack(params, seeds)
        slots = [tf.constant(value) for value in self._fresh_slots]

        def body(step: Any, trainable: Any, state: Any, slots: Any, total: Any) -> Any:
            epoch, start = step // steps, (step % steps) * batch
            chosen = order[epoch, start : tf.minimum(start + batch, rows)]
            trainable, state, slots, loss = self._step(
                trainable, state, slots, tf.gather(x, chosen), tf.gather(y, chosen)
            )
            total += tf.cast(epoch == epochs - 1, tf.float32) * loss
            return step + 1, trainable, state, slots, total

        _, trainable, state, _, total = tf.while_loop(
            lambda step, *_: step < epochs * steps,
            body,
            (tf.constant(0), trainable, state, slots, tf.constant(0.0)),
        )
        return self._layout.pack(trainable, state), total / tf.cast(rows, tf.float32)

    def _step(self, trainable: Any, state: Any, slots: Any, x: Any, y: Any) -> tuple[Any, ...]:
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            outputs, state, penalties = self._model.stateless_call(
                trainable, state, x, training=True, return_losses=True
            )
            losses = self._objective.loss(y, outputs)
            total = tf.add_n([tf.reduce_mean(losses), *penalties])
        found = tape.gradient(total, trainable, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(value) for value in found]
        trainable, slots = self._optimizer.stateless_apply(slots, gradients, trainable)
        return trainable, state, slots, tf.reduce_sum(losses)
