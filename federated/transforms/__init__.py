"""What happens to an update on its way to the server."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.transforms.adaptive import AdaptiveGaussian
from federated.transforms.clipping import Clip, ClipElements, ClipLayers
from federated.transforms.correlated_noise import CorrelatedGaussian
from federated.transforms.distributed_noise import DistributedSkellam
from federated.transforms.local_noise import LocalGaussian
from federated.transforms.noising import NOISE_FOUND, CentralGaussian
from federated.transforms.quantising import Quantise, Rotate, Sign
from federated.transforms.sparsifying import RandomK, TopK
from federated.transforms.transform import Hides, Layers, NoisedBy, Sized, Transform

__all__ = [
    "NOISE_FOUND",
    "AdaptiveGaussian",
    "AnyTransform",
    "CentralGaussian",
    "Clip",
    "ClipElements",
    "ClipLayers",
    "CorrelatedGaussian",
    "DistributedSkellam",
    "Hides",
    "Layers",
    "LocalGaussian",
    "NoisedBy",
    "Quantise",
    "RandomK",
    "Rotate",
    "Sign",
    "Sized",
    "TopK",
    "Transform",
]

AnyTransform = Annotated[
    Clip
    | ClipLayers
    | ClipElements
    | TopK
    | RandomK
    | Quantise
    | Rotate
    | Sign
    | CentralGaussian
    | AdaptiveGaussian
    | LocalGaussian
    | DistributedSkellam
    | CorrelatedGaussian,
    Field(discriminator="kind"),
    ByKind(),
]
