"""Every optimizer of local training against the Keras optimizer of that name."""

import inspect
from functools import cache
from typing import Any, get_args

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from federated.component import Vector
from federated.errors import PlanError
from federated.local_optimizers import AnyLocalOptimizer, CustomOptimizer, Sgd
from federated.local_training import LocalTraining
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.specs import CustomModel, Logistic
from tests.models.samples import classified, fill, flat, orders, weights

ROWS, FEATURES, CLASSES, SEED = 7, 2, 3, 5
DATA = classified(ROWS, FEATURES, CLASSES)
START = weights((FEATURES + 1) * CLASSES)  # the kernel, then biases that are not zero

UNION, *_ = get_args(AnyLocalOptimizer)
MEMBERS = {member.model_fields["kind"].default: member for member in get_args(UNION) if member is not CustomOptimizer}
WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
LEFT_OUT = {"ScheduleFreeAdamW"}  # refused below
KERAS = {
    name.lower(): found
    for name, found in vars(keras.optimizers).items()
    if inspect.isclass(found) and name not in WRAPPERS | LEFT_OUT
}


@cache
def engine() -> KerasEngine:
    """One for all tests, so that each loop is traced once."""
    return KerasEngine(Logistic(), (FEATURES,), CLASSES)


def trained(optimizer: AnyLocalOptimizer, steps: int = 1, start: Vector = START) -> Vector:
    work = LocalTraining(epochs=steps, batch_size=None, optimizer=optimizer)
    return engine().fit(start, DATA, work, np.random.default_rng(SEED)).params


def gradient(params: Vector, order: np.ndarray) -> np.ndarray:
    """Of multinomial logistic regression, by hand: shape (features + 1, classes), biases last."""
    design = np.column_stack([DATA.x[order], np.ones(ROWS)])
    logits = design @ params.reshape(FEATURES + 1, CLASSES)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return design.T @ (chances - np.eye(CLASSES)[DATA.y[order]]) / ROWS


def by_keras(optimizer: keras.optimizers.Optimizer, steps: int) -> Vector:
    """Keras' stateful optimizer on those gradients."""
    model = Logistic().build((FEATURES,), CLASSES)
    fill(model, START)
    for order in orders(ROWS, steps, SEED):
        slope = gradient(flat(model), order).astype(np.float32)
        gradients = [keras.ops.convert_to_tensor(part) for part in (slope[:-1], slope[-1])]
        optimizer.apply(gradients, model.trainable_variables)
    return flat(model)


def in_keras(optimizer: AnyLocalOptimizer) -> keras.optimizers.Optimizer:
    return KERAS[optimizer.kind](**optimizer.model_dump(exclude={"kind"}))


def test_every_keras_optimizer_can_be_named():
    assert set(MEMBERS) == set(KERAS)


@pytest.mark.parametrize("kind", MEMBERS)
def test_every_field_is_an_argument_of_keras_with_its_default(kind):
    arguments = inspect.signature(KERAS[kind]).parameters
    fields = {name: field.default for name, field in MEMBERS[kind].model_fields.items()}
    del fields["kind"]
    assert fields == {name: arguments[name].default if name in arguments else "no such argument" for name in fields}


@pytest.mark.parametrize("kind", MEMBERS)
def test_every_optimizer_moves_every_weight_to_a_finite_place(kind):
    moved = trained(MEMBERS[kind]())
    assert np.isfinite(moved).all()
    assert (moved != START).all()


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("kind", MEMBERS)
def test_every_optimizer_steps_as_keras_does(kind, steps):
    optimizer = MEMBERS[kind]()
    expected = by_keras(in_keras(optimizer), steps)
    np.testing.assert_allclose(trained(optimizer, steps), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", MEMBERS)
def test_every_optimizer_decays_weights_as_keras_does(kind):
    optimizer = MEMBERS[kind](weight_decay=0.5, learning_rate=0.01)
    expected = by_keras(in_keras(optimizer), 2)
    np.testing.assert_allclose(trained(optimizer, 2), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - by_keras(KERAS[kind](learning_rate=0.01), 2)).max() > 1e-4


@pytest.mark.parametrize("kind", MEMBERS)
def test_every_optimizer_starts_from_nothing_but_its_arguments(kind):
    """Two engines hold models of different random weights, which must not matter."""
    work = LocalTraining(epochs=2, batch_size=4, optimizer=MEMBERS[kind]())
    other = KerasEngine(Logistic(), (FEATURES,), CLASSES)
    first, second = (one.fit(START, DATA, work, np.random.default_rng(SEED)).params for one in (engine(), other))
    assert first.tobytes() == second.tobytes()


def test_an_optimizer_starts_afresh_in_every_round():
    momentum = Sgd(learning_rate=0.1, momentum=0.9)
    assert trained(momentum).tobytes() == trained(momentum).tobytes()
    once = trained(momentum)
    assert not np.allclose(trained(momentum, 1, once), trained(momentum, 2), atol=1e-4)


def limits(**limit: float) -> Vector:
    """The step of plain descent with a learning rate of 1: minus the gradient after the limit."""
    return trained(Sgd(learning_rate=1.0, **limit)) - START


def test_clipnorm_limits_the_norm_of_each_variable():
    kernel, bias = gradient(START, np.arange(ROWS))[:-1], gradient(START, np.arange(ROWS))[-1]
    expected = [part * 0.01 / np.linalg.norm(part) for part in (kernel, bias)]
    found = limits(clipnorm=0.01)
    np.testing.assert_allclose(found, -np.concatenate(expected, axis=None), rtol=0, atol=1e-6)


def test_clipvalue_limits_each_element():
    whole = gradient(START, np.arange(ROWS)).ravel()
    assert np.abs(whole).min() < 0.1 < np.abs(whole).max()
    found = limits(clipvalue=0.1)
    np.testing.assert_allclose(found, -np.clip(whole, -0.1, 0.1), rtol=0, atol=1e-6)


def test_global_clipnorm_limits_the_norm_of_all_together():
    whole = gradient(START, np.arange(ROWS)).ravel()
    found = limits(global_clipnorm=0.01)
    np.testing.assert_allclose(found, -whole * 0.01 / np.linalg.norm(whole), rtol=0, atol=1e-6)


def test_two_limits_at_once_are_refused():
    with pytest.raises(ValidationError, match="only one way of clipping gradients may be set, got clipnorm and clip"):
        Sgd(clipnorm=1.0, clipvalue=1.0)


class Cautious(keras.optimizers.SGD):
    """Takes a share of the step; says so in its config, as Keras asks."""

    def __init__(self, share: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.share = share

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * self.share, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"share": self.share}


class Silent(keras.optimizers.SGD):
    """Takes a share of the step, and has no ``get_config`` of its own."""

    def __init__(self, share: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.share = share

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * self.share, variable, learning_rate)


class Decaying(keras.optimizers.SGD):
    """Decays weights in its own way: by half at every step."""

    def _apply_weight_decay(self, variables):
        for variable in variables:
            variable.assign(variable * 0.5)


def slow_start(rate: float) -> keras.optimizers.Optimizer:
    """A function that makes an optimizer, with a schedule."""
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [rate, 10 * rate])
    return keras.optimizers.SGD(schedule)


def not_an_optimizer() -> dict[str, int]:
    return {"learning_rate": 1}


def custom(name: str, **options: Any) -> CustomOptimizer:
    return CustomOptimizer(target=f"{__name__}:{name}", options=options)


def test_a_keras_class_named_as_a_custom_optimizer_is_that_class():
    named = CustomOptimizer(target="keras.optimizers:Adam", options={"learning_rate": 0.1})
    np.testing.assert_allclose(trained(named), trained(MEMBERS["adam"](learning_rate=0.1)), rtol=0, atol=1e-6)


def test_a_custom_optimizer_gets_its_options():
    half = trained(custom("Cautious", share=0.5, learning_rate=0.2))
    np.testing.assert_allclose(half, trained(Sgd(learning_rate=0.1)), rtol=0, atol=1e-6)
    assert not np.allclose(half, trained(Sgd(learning_rate=0.2)), atol=1e-4)


def test_a_custom_optimizer_without_a_config_keeps_its_options():
    half = trained(custom("Silent", share=0.5, learning_rate=0.2))
    np.testing.assert_allclose(half, trained(Sgd(learning_rate=0.1)), rtol=0, atol=1e-6)


def test_a_custom_optimizer_may_decay_weights_in_its_own_way():
    found = trained(custom("Decaying", learning_rate=1e-9))
    np.testing.assert_allclose(found, START / 2, rtol=0, atol=1e-6)


def test_a_custom_optimizer_may_follow_a_schedule():
    expected = by_keras(slow_start(0.01), 3)
    found = trained(custom("slow_start", rate=0.01), 3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(expected - by_keras(keras.optimizers.SGD(0.01), 3)).max() > 1e-3


@pytest.mark.parametrize(
    ("optimizer", "complaint"),
    [
        pytest.param(custom("not_an_optimizer"), ": expected it to give a Optimizer, got dict", id="dict"),
        pytest.param(custom("absent"), f": {__name__!r} has no 'absent'", id="absent"),
        pytest.param(custom("SEED"), f": {__name__!r} has a value of type int and no callable called 'SEED'", id="int"),
        pytest.param(custom("Cautious", speed=3), " with options speed: ", id="option"),
    ],
)
def test_a_custom_target_that_makes_no_optimizer_is_refused(optimizer, complaint):
    with pytest.raises(PlanError) as refusal:
        trained(optimizer)
    assert str(refusal.value).startswith(f"algorithm.local.optimizer.custom: target {optimizer.target!r}{complaint}")


def keras_sgd(**options: Any) -> CustomOptimizer:
    return CustomOptimizer(target="keras.optimizers:SGD", options={"learning_rate": 0.1} | options)


@pytest.mark.parametrize(
    "options",
    [{"use_ema": True}, {"gradient_accumulation_steps": 2}, {"loss_scale_factor": 1024.0}],
    ids=["average", "accumulation", "loss scale"],
)
def test_an_optimizer_that_updates_weights_now_and_then_is_refused(options):
    with pytest.raises(PlanError) as refusal:
        trained(keras_sgd(**options))
    assert str(refusal.value) == (
        f"algorithm.local.optimizer.custom: {next(iter(options))} does not work in local training; leave it out"
    )


def test_an_optimizer_whose_state_is_a_copy_of_the_weights_is_refused():
    with pytest.raises(PlanError) as refusal:
        trained(CustomOptimizer(target="keras.optimizers:ScheduleFreeAdamW"))
    assert str(refusal.value) == (
        "algorithm.local.optimizer.custom: it starts from a copy of the weights, which change from round to round"
    )


def normalised(inputs, classes):
    """Has weights that start as ones."""
    return keras.Sequential(
        [keras.Input(inputs), keras.layers.BatchNormalization(), keras.layers.Dense(output_units(classes))]
    )


@pytest.mark.parametrize("kind", ["adagrad", "ftrl"])
def test_a_state_that_only_looks_like_the_first_weights_is_taken(kind):
    one = KerasEngine(CustomModel(target=f"{__name__}:normalised"), (FEATURES,), CLASSES)
    work = LocalTraining(optimizer=MEMBERS[kind](initial_accumulator_value=1.0))
    assert np.isfinite(one.fit(one.init(0), DATA, work, np.random.default_rng(SEED)).params).all()
