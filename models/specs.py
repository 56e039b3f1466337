"""Every architecture that a plan can name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from federated.component import ByKind
from models.dense import Linear, Logistic, Mlp
from models.images import Cnn, ResNet
from models.own import CustomModel, SavedModel
from models.recommending import Recommender
from models.sequences import Gru, Lstm

AnyModel = Annotated[
    Linear | Logistic | Mlp | Cnn | ResNet | Lstm | Gru | Recommender | SavedModel | CustomModel,
    Field(discriminator="kind"),
    ByKind(),
]
