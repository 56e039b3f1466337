"""How the updates of a cohort become one vector."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.rules.custom import CustomRule
from federated.rules.means import FedNova, Mean, WeightedMean
from federated.rules.rule import Rule

__all__ = ["AnyRule", "CustomRule", "FedNova", "Mean", "Rule", "WeightedMean"]

AnyRule = Annotated[Mean | WeightedMean | FedNova | CustomRule, Field(discriminator="kind"), ByKind()]
