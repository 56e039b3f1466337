"""What happens to an update on its way to the server."""

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from federated.transforms.clipping import Clip, ClipElements, ClipLayers
from federated.transforms.noising import NOISE_FOUND, CentralGaussian
from federated.transforms.quantising import Quantise, Rotate, Sign
from federated.transforms.sparsifying import RandomK, TopK
from federated.transforms.transform import Layers, Transform

__all__ = [
    "NOISE_FOUND",
    "AnyTransform",
    "CentralGaussian",
    "Clip",
    "ClipElements",
    "ClipLayers",
    "Layers",
    "Quantise",
    "RandomK",
    "Rotate",
    "Sign",
    "TopK",
    "Transform",
]

AnyTransform = Annotated[
    Clip | ClipLayers | ClipElements | TopK | RandomK | Quantise | Rotate | Sign | CentralGaussian,
    Field(discriminator="kind"),
    ByKind(),
]
