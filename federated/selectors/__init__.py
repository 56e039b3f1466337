"""Which clients take part in a round, and why."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.selectors.availability import Available, Presence
from federated.selectors.custom import CustomSelector
from federated.selectors.drawing import All, BySize, Poisson, RoundRobin, Uniform
from federated.selectors.informed import PowerOfChoice, Stratified
from federated.selectors.selector import Pool, Selection, Selector

__all__ = [
    "All",
    "AnySelector",
    "Available",
    "BySize",
    "CustomSelector",
    "Poisson",
    "Pool",
    "PowerOfChoice",
    "Presence",
    "RoundRobin",
    "Selection",
    "Selector",
    "Stratified",
    "Uniform",
]

AnySelector = Annotated[
    All | Uniform | Poisson | BySize | RoundRobin | PowerOfChoice | Available | Stratified | CustomSelector,
    Field(discriminator="kind"),
    ByKind(),
]
