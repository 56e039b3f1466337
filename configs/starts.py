"""What the first round starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from federated.component import ByKind, Component


class Fresh(Component):
    """Weights drawn from the seed."""

    kind: Literal["fresh"] = "fresh"


class FromChampion(Component):
    """The weights of the model's champion; drawn from the seed where there is none yet."""

    kind: Literal["champion"] = "champion"


class FromVersion(Component):
    """The weights of a registered version of the plan's model."""

    kind: Literal["version"] = "version"
    version: int = Field(ge=1)


AnyStart = Annotated[Fresh | FromChampion | FromVersion, Field(discriminator="kind"), ByKind()]
