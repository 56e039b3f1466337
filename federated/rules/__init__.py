"""How the updates of a cohort become one vector."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.rules.bounded import CenteredClip, NormBoundedMean
from federated.rules.coordinates import Median, TrimmedMean
from federated.rules.custom import CustomRule
from federated.rules.fairness import QFedAvg
from federated.rules.fltrust import FlTrust
from federated.rules.geometric_median import GeometricMedian
from federated.rules.krum import Bulyan, Krum, MultiKrum
from federated.rules.means import FedNova, FixedMean, Mean, WeightedMean
from federated.rules.rule import Rule

__all__ = [
    "AnyRule",
    "Bulyan",
    "CenteredClip",
    "CustomRule",
    "FedNova",
    "FixedMean",
    "FlTrust",
    "GeometricMedian",
    "Krum",
    "Mean",
    "Median",
    "MultiKrum",
    "NormBoundedMean",
    "QFedAvg",
    "Rule",
    "TrimmedMean",
    "WeightedMean",
]

AnyRule = Annotated[
    Mean
    | WeightedMean
    | FixedMean
    | FedNova
    | Median
    | TrimmedMean
    | Krum
    | MultiKrum
    | Bulyan
    | GeometricMedian
    | CenteredClip
    | FlTrust
    | NormBoundedMean
    | QFedAvg
    | CustomRule,
    Field(discriminator="kind"),
    ByKind(),
]
