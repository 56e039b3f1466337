"""How neighbouring data differ, that an ε tells little apart: in one release, and in several together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from federated.component import Component
from federated.privacy.releases import Release, Unit

Relation = Literal["add_or_remove_one", "zero_out"]
"""A unit is there or is not; or it is there all the same, and zeros are in the place of what it sends."""

Sampling = Literal["poisson", "none"]
"""What an ε assumes of who takes part: each unit is drawn by itself, and nobody sees whom; or nothing."""


class Neighbours(Component):
    """What two data sets differ in that a release tells little apart: ``relation``, and the same ``said`` in words."""

    relation: Relation
    said: str = Field(min_length=1)


def common(relations: Iterable[Relation]) -> Relation:
    """What the ε of releases that are counted with these ``relations`` holds for.

    Each is a sum with noise, or one message, to which a unit adds a vector of at most one clip norm, and which is
    divided by nothing that depends on who came. A unit that is absent adds zeros: so what is counted with
    ``add_or_remove_one`` costs as much where zeros are put in a unit's place, and a sum of both kinds is an ε of that.
    Not the other way round: where it is known who takes part, nobody can be absent unseen.
    """
    return "add_or_remove_one" if all(relation == "add_or_remove_one" for relation in relations) else "zero_out"


def sampling(releases: Iterable[Release]) -> Sampling:
    """What an ε of these releases assumes: sampling, where any of them is counted with it."""
    return "poisson" if any(release.rate < 1 for release in releases) else "none"


def unrecorded(release: Release, unit: Unit) -> Neighbours:
    """What holds of a release of which nobody has noted what it is counted with, as in ledgers of before.

    Of clients, only noise of a server was ever counted with sampling: there, they are added or removed.
    """
    if release.rate < 1 and unit == "client":
        return Neighbours(relation="add_or_remove_one", said="one client, added or removed")
    return Neighbours(relation="zero_out", said=f"what one {unit} sends, or zeros in its place")
