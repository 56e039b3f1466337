"""Attacks by clients, as data: for simulations only."""

from typing import Annotated

from pydantic import Field

from federated.attacks.adversary import NOBODY, Adversary
from federated.attacks.attack import Attack, Rounds, Seen
from federated.attacks.colluding import Alie, InnerProduct
from federated.attacks.lying import FreeRider, Gaussian, SignFlip
from federated.attacks.poisoning import Backdoor, LabelFlip
from federated.component import ByKind

__all__ = [
    "NOBODY",
    "Adversary",
    "Alie",
    "AnyAttack",
    "Attack",
    "Backdoor",
    "FreeRider",
    "Gaussian",
    "InnerProduct",
    "LabelFlip",
    "Rounds",
    "Seen",
    "SignFlip",
]

AnyAttack = Annotated[
    SignFlip | Gaussian | LabelFlip | Alie | InnerProduct | Backdoor | FreeRider,
    Field(discriminator="kind"),
    ByKind(),
]
