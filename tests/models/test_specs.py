"""Architectures: how many numbers they hold, which targets they take, and users' own."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from federated.errors import PlanError
from models.architecture import output_units
from models.keras_engine import KerasEngine
from models.specs import CustomModel, Linear, Logistic, Mlp

SHAPES = [(1,), (7,), (8, 8, 1), (2, 3, 4)]
ARCHITECTURES = [
    pytest.param(Linear(), None, id="linear"),
    *[pytest.param(Logistic(), classes, id=f"logistic-{classes}") for classes in (2, 3, 10)],
    *[
        pytest.param(Mlp(hidden=hidden), classes, id=f"mlp-{hidden}-{classes}")
        for hidden in ((), (5,), (6, 3))
        for classes in (None, 2, 3)
    ],
]


@pytest.mark.parametrize("inputs", SHAPES, ids=str)
@pytest.mark.parametrize(("spec", "classes"), ARCHITECTURES)
def test_the_count_of_parameters_needs_no_model(spec, classes, inputs):
    model = spec.build(inputs, classes)
    assert spec.parameters(inputs, classes) == model.count_params()
    assert model.output_shape == (None, output_units(classes))


@pytest.mark.parametrize(("classes", "units"), [(None, 1), (2, 1), (3, 3), (10, 10)])
def test_two_classes_need_one_logit_and_more_one_each(classes, units):
    assert output_units(classes) == units


LIGHT = """
import sys
from configs.loading import load_plan, shipped
from models.specs import Cnn, Gru, Linear, Logistic, Mlp, Recommender, ResNet
for name in shipped():
    load_plan(name)
Linear().parameters((3,), None), Logistic().parameters((3,), 3), Mlp().parameters((3,), 2)
Cnn().parameters((28, 28, 1), 10), ResNet().parameters((28, 28, 1), 10), Gru().parameters((9, 2), None)
Recommender(users=3, items=4).parameters((2,), None)
heavy = ("tensorflow", "keras", "prefect", "mlflow", "pandas", "sklearn")
print(*sorted(name for name in heavy if name in sys.modules))
"""


def test_a_plan_is_read_and_its_parameters_counted_without_a_heavy_import():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("spec", "classes", "complaint"),
    [
        (Linear(), 2, "model.linear: the target has classes; use logistic or mlp"),
        (Linear(), 3, "model.linear: the target has classes; use logistic or mlp"),
        (Logistic(), None, "model.logistic: the target has no classes; use linear or mlp"),
    ],
)
def test_a_model_for_the_other_kind_of_target_is_refused(spec, classes, complaint):
    with pytest.raises(PlanError) as refusal:
        spec.check((3,), classes)
    assert str(refusal.value) == complaint


@pytest.mark.parametrize(("spec", "classes"), ARCHITECTURES)
def test_a_model_for_this_kind_of_target_is_taken(spec, classes):
    spec.check((3,), classes)


def stack(inputs, *layers):
    return keras.Sequential([keras.Input(inputs), keras.layers.Flatten(), *layers])


def good(inputs, classes, width=4):
    return stack(inputs, keras.layers.Dense(width, "relu"), keras.layers.Dense(output_units(classes)))


def functional(inputs, classes):
    rows = keras.Input(inputs)
    return keras.Model(rows, keras.layers.Dense(output_units(classes))(rows))


def not_a_model(inputs, classes):
    return [inputs, classes]


def too_wide(inputs, classes):
    return stack(inputs, keras.layers.Dense(output_units(classes) + 1))


def two_outputs(inputs, classes):
    rows = keras.Input(inputs)
    output = keras.layers.Dense(output_units(classes))(rows)
    return keras.Model(rows, [output, output])


def unbuilt(inputs, classes):
    return keras.Sequential([keras.layers.Dense(output_units(classes))])


def with_softmax(inputs, classes):
    return stack(inputs, keras.layers.Dense(output_units(classes), activation="softmax"))


def with_sigmoid(inputs, classes):
    return stack(inputs, keras.layers.Dense(output_units(classes), activation="sigmoid"))


def with_softmax_activation(inputs, classes):
    return stack(inputs, keras.layers.Dense(output_units(classes)), keras.layers.Activation("softmax"))


def with_softmax_layer(inputs, classes):
    return stack(inputs, keras.layers.Dense(output_units(classes)), keras.layers.Softmax())


def with_nested_softmax(inputs, classes):
    return stack(inputs, with_softmax(inputs, classes))


class Subclass(keras.Model):
    """A model in the style that has no ``output_shape``."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.output_layer = keras.layers.Dense(units)

    def call(self, rows):
        return self.output_layer(rows)


def subclassed(inputs, classes):
    model = Subclass(output_units(classes))
    model(np.zeros((1, *inputs), np.float32))
    return model


def with_softmax_operation(inputs, classes):
    rows = keras.Input(inputs)
    return keras.Model(rows, keras.ops.softmax(keras.layers.Dense(output_units(classes))(rows)))


ENDINGS = [
    "with_softmax",
    "with_softmax_activation",
    "with_softmax_layer",
    "with_nested_softmax",
]
ENDS_IN_SOFTMAX = "ends in softmax; end in a linear layer, the loss and the served model add it"


def custom(name: str, **options: int) -> CustomModel:
    return CustomModel(target=f"{__name__}:{name}", options=options)


@pytest.mark.parametrize("name", ["good", "functional"])
@pytest.mark.parametrize("classes", [None, 2, 3])
def test_a_model_of_the_users_own_trains(name, classes):
    spec = custom(name)
    engine = KerasEngine(spec, (5,), classes)
    assert engine.size == spec.parameters((5,), classes) == engine.init(0).size


def test_a_model_of_the_users_own_gets_its_options():
    assert custom("good", width=9).parameters((5,), 3) == 6 * 9 + 10 * 3


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("too_wide", "must end in shape (None, 3), got (None, 4)"),
        ("two_outputs", "must end in shape (None, 3), got [(None, 3), (None, 3)]"),
        ("unbuilt", "must end in shape (None, 3), got no fixed shape"),
        ("subclassed", "must end in shape (None, 3), got no fixed shape"),
        *[(name, ENDS_IN_SOFTMAX) for name in ENDINGS],
    ],
)
def test_a_model_that_does_not_fit_is_refused(name, complaint):
    with pytest.raises(PlanError) as refusal:
        KerasEngine(custom(name), (5,), 3)
    assert str(refusal.value) == f"model.custom.target: {__name__}:{name} {complaint}"


def test_a_softmax_that_is_an_operation_is_refused():
    with pytest.raises(PlanError, match="ends in softmax"):
        KerasEngine(custom("with_softmax_operation"), (5,), 3)


def test_one_logit_behind_a_sigmoid_is_refused():
    with pytest.raises(PlanError, match="ends in sigmoid; end in a linear layer"):
        KerasEngine(custom("with_sigmoid"), (5,), 2)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("no.such.module:build", "cannot import 'no.such.module' (ModuleNotFoundError: No module named 'no')"),
        (f"{__name__}:absent", f"{__name__!r} has no 'absent'"),
        (f"{__name__}:SHAPES", f"{__name__!r} has a value of type list and no callable called 'SHAPES'"),
        (f"{__name__}:not_a_model", "expected it to give a Model, got list"),
    ],
)
def test_a_target_that_makes_no_model_is_refused(target, complaint):
    with pytest.raises(PlanError) as refusal:
        KerasEngine(CustomModel(target=target), (5,), 3)
    assert str(refusal.value).startswith(f"target {target!r}: {complaint}")


def test_an_option_that_the_users_builder_does_not_take_is_refused():
    with pytest.raises(PlanError, match=f"target '{__name__}:good' with options depth: .*'depth'"):
        KerasEngine(custom("good", depth=3), (5,), 3)
