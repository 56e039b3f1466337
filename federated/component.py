"""What every part of an algorithm is made of: frozen, validated, pure."""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

Vector = NDArray[np.float32]
"""A model or an update: shape (parameters,), float32."""

Metrics = dict[str, float]
"""Named numbers, reported and never fed back into the method."""

State = TypeVar("State")
Result = TypeVar("Result")


class Component(BaseModel):
    """A member of a family: its fields are hyper-parameters, its methods are pure.

    Unknown keys, NaN and infinity are refused when it is built.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ByKind:
    """Marks a union whose members are told apart by ``kind``, so that forms offer each member by name.

    pydantic describes such a union as ``oneOf``, which Prefect's form shows as bare JSON; ``anyOf`` it draws.
    """

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        if "oneOf" in schema:
            schema["anyOf"] = schema.pop("oneOf")
        return schema


class Step(NamedTuple, Generic[State, Result]):
    """What every stateful call returns: the next state, the result, and metrics about the call."""

    state: State
    result: Result
    metrics: Metrics
