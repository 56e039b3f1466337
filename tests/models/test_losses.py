"""What training minimises: by the kind of target, by name, or by a function of the user's."""

import keras
import numpy as np
import pytest
from keras import ops
from pydantic import TypeAdapter

from federated.errors import PlanError
from federated.local_optimizers import Sgd
from federated.local_training import LocalTraining
from models.keras_engine import KerasEngine
from models.losses import AnyLoss, Auto, BinaryCrossEntropy, CategoricalCrossEntropy, CustomLoss, MeanSquaredError
from models.specs import Linear, Logistic
from tests.models.samples import classified, valued, weights

FEATURES, RATE = 3, 0.05
NAMED = {MeanSquaredError(): None, BinaryCrossEntropy(): 2, CategoricalCrossEntropy(): 4}


def huber(targets, outputs, delta):
    error = ops.abs(outputs[:, 0] - targets)
    return ops.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def focal(targets, outputs):
    """A loss that easy examples hardly count in (Lin et al. 2017)."""
    cross = ops.sparse_categorical_crossentropy(targets, outputs, from_logits=True)
    return (1 - ops.exp(-cross)) ** 2 * cross


def mean_of_all(targets, outputs):
    return ops.mean(ops.square(outputs[:, 0] - targets))


def broken(targets, outputs):
    raise ValueError("no such thing")


def own(name: str, **options) -> CustomLoss:
    return CustomLoss(target=f"{__name__}:{name}", options=options)


@pytest.mark.parametrize("loss", [*NAMED, Auto(), own("huber", delta=1.0)], ids=repr)
def test_a_loss_survives_the_journey_through_json(loss):
    assert TypeAdapter(AnyLoss).validate_json(loss.model_dump_json()) == loss


@pytest.mark.parametrize(("loss", "classes"), NAMED.items(), ids=repr)
def test_a_loss_by_name_is_what_auto_takes_for_its_kind_of_target(loss, classes):
    loss.check(classes)
    assert loss.objective(classes) == Auto().objective(classes)


@pytest.mark.parametrize("loss", NAMED, ids=repr)
def test_a_loss_for_another_kind_of_target_is_refused(loss):
    for classes in {None, 2, 4} - {NAMED[loss]}:
        with pytest.raises(PlanError, match=rf"loss: {loss.kind} is for .*, the data have .*; auto fits"):
            loss.check(classes)


@pytest.mark.parametrize("compilation", ["graph", "xla", "vectorized"])
def test_a_loss_of_ones_own_is_descended_along_as_by_hand(compilation):
    data, delta = valued(8, FEATURES), 0.4
    engine = KerasEngine(Linear(), (FEATURES,), None, compilation, own("huber", delta=delta))
    work = LocalTraining(epochs=4, batch_size=None, optimizer=Sgd(learning_rate=RATE))
    start = weights(engine.size)
    found = engine.fit(start, data, work, np.random.default_rng(0))
    params, design = start.astype(np.float64), np.column_stack([data.x, np.ones(8)])
    for _ in range(4):
        error = design @ params - data.y
        loss = np.where(abs(error) <= delta, error**2 / 2, delta * (abs(error) - delta / 2)).mean()
        params = params - RATE * design.T @ np.clip(error, -delta, delta) / 8
    np.testing.assert_allclose(found.params, params, atol=1e-5)
    assert found.metrics["train_loss"] == pytest.approx(loss, rel=1e-4)


def test_evaluation_reads_the_same_loss_and_the_usual_score():
    data = classified(50, FEATURES, 3)
    engine, usual = (KerasEngine(Logistic(), (FEATURES,), 3, loss=loss) for loss in (own("focal"), Auto()))
    params = weights(engine.size)
    scores, others = engine.score(params, data), usual.score(params, data)
    np.testing.assert_array_equal(scores["accuracy"], others["accuracy"])
    expected = (1 - np.exp(-others["loss"])) ** 2 * others["loss"]
    np.testing.assert_allclose(scores["loss"], expected, rtol=1e-4, atol=1e-6)
    assert isinstance(own("focal").objective(3).activation(), keras.layers.Softmax)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (own("mean_of_all"), r"must give a number an example, shape \(rows,\); for 2 rows it gave shape \(\)"),
        (own("broken"), "failed on two examples: ValueError: no such thing"),
        (own("huber", gamma=1), "failed on two examples: TypeError"),
        (own("nowhere"), "has no 'nowhere'"),
    ],
    ids=["mean", "raises", "option", "nowhere"],
)
def test_a_function_that_is_no_loss_is_refused_before_anything_begins(loss, message):
    with pytest.raises(PlanError, match=message):
        KerasEngine(Linear(), (FEATURES,), None, loss=loss)
