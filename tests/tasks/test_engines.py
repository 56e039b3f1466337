"""An engine is what its plan asks for."""

from __future__ import annotations

import pytest

from configs.loading import load_plan
from federated.errors import PlanError
from tasks.engines import engine_of


def engine(*changes: str):
    plan = load_plan("quickstart", changes)
    return engine_of(plan, plan.federation())


def test_a_plan_that_asks_for_nothing_trains_in_lanes_and_in_float32():
    one = engine("device=cpu")
    assert (one.size, one.compilation, one.device) == (4810, "vectorized", "cpu")
    assert one._trained is one._model


def test_compilation_and_precision_are_those_of_the_plan():
    one = engine("compilation=xla", "precision=mixed_bfloat16")
    assert one.compilation == "xla"
    assert {layer.compute_dtype for layer in one._trained.layers} == {"bfloat16"}


def test_what_this_machine_cannot_do_is_refused():
    with pytest.raises(PlanError, match="replicas: 64 devices are to train one client together"):
        engine("replicas=64")
