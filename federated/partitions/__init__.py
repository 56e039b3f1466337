"""Who holds which rows."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.partitions.features import Features
from federated.partitions.labels import Dirichlet, Labels, Shards
from federated.partitions.natural import Natural
from federated.partitions.partition import Partition
from federated.partitions.sizes import Iid, PowerLaw, Shares

__all__ = [
    "AnyPartition",
    "Dirichlet",
    "Features",
    "Iid",
    "Labels",
    "Natural",
    "Partition",
    "PowerLaw",
    "Shards",
    "Shares",
]

AnyPartition = Annotated[
    Natural | Shares | Iid | PowerLaw | Dirichlet | Shards | Labels | Features,
    Field(discriminator="kind"),
    ByKind(),
]
