"""Every round's global model as a registered MLflow version."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs import environment
from configs.plan import Plan
from federated.component import Vector
from federated.scaling import Affine
from federated.updates import digest
from tasks.tracking import TrackedRun, storing
from tasks.training import Training

_TAG_LENGTH = 4000
_MODEL_ID = "id-of-the-logged-model"  # stands in the folder for what changes with every version


class VersionWriter:
    """Writes versions of one registered model.

    What does not change from round to round (signature, requirements, input example) is made once, in a folder. A
    round rewrites the weights in it, and the folder is uploaded: nothing is inferred again. Not for several threads
    at a time.
    """

    def __init__(self, training: Training, run: TrackedRun) -> None:
        from models.served_model import ServedModel

        self._plan, self._run = training.plan, run
        spec, parties = training.plan.model, training.federation
        self._folder = Path(tempfile.mkdtemp(prefix="roundhouse-"))
        self._parent: str | None = None
        try:
            with storing("the model's folder"):
                self.served = ServedModel(spec, parties.inputs, parties.classes, parties.scaling)
                self._write_template(example_rows(parties.scaling))
        except Exception:
            self.close()
            raise

    def write(self, round: int, params: Vector, cohort: Sequence[str]) -> str:
        """Registers ``params`` as the next version and gives its number.

        Raises:
            TrackingError: MLflow or the disk refused.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client, run = self._run.client, self._run
        tags = self._tags(round, params, cohort)
        with storing(f"the version of round {round}"):
            if self._parent is None:
                _ensure_registered_model(run, self._plan)
            logged = client.create_logged_model(run.experiment_id, self._plan.name, run.run_id, model_type="keras")
            self.served.save(params, self._folder / "data" / "model.keras")
            self._label(logged.model_id)
            store = get_artifact_repository(logged.artifact_location, tracking_uri=environment.tracking_uri())
            store.log_artifacts(str(self._folder))
            client.finalize_logged_model(logged.model_id, "READY")
            version = client.create_model_version(
                self._plan.name,
                f"models:/{logged.model_id}",
                run.run_id,
                tags=tags,
                model_id=logged.model_id,
            )
        self._parent = str(version.version)
        return self._parent

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _tags(self, round: int, params: Vector, cohort: Sequence[str]) -> dict[str, str]:
        tags = {
            "run_id": self._run.run_id,
            "round": str(round),
            "cohort_size": str(len(cohort)),
            "cohort": _listed(cohort),
            "cohort_sha256": hashlib.sha256("\n".join(cohort).encode()).hexdigest(),
            "plan_sha256": self._plan.digest(),
            "weights_sha256": digest(params),
        }
        return tags if self._parent is None else tags | {"parent_version": self._parent}

    def _write_template(self, example: NDArray[np.float32]) -> None:
        import mlflow.keras
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        def tensor(*shape: int) -> Any:
            return Schema([TensorSpec(np.dtype(np.float32), (-1, *shape))])

        # MLflow writes the example before it makes the folder (mlflow#16183): here the folder is there already.
        mlflow.keras.save_model(
            self.served.model,
            str(self._folder),
            signature=ModelSignature(tensor(*example.shape[1:]), tensor(self.served.output_units)),
            input_example=example,
            pip_requirements=_requirements(),
        )
        description = Model.load(str(self._folder))
        description.model_id = description.model_uuid = _MODEL_ID
        description.run_id = self._run.run_id
        description.save(str(self._folder / "MLmodel"))
        self._description = (self._folder / "MLmodel").read_text(encoding="utf-8")

    def _label(self, model_id: str) -> None:
        text = self._description.replace(_MODEL_ID, model_id)
        (self._folder / "MLmodel").write_text(text, encoding="utf-8")


def _listed(names: Sequence[str]) -> str:
    """As many names as a tag holds, and how many more there are."""
    text = ",".join(names)
    if len(text) <= _TAG_LENGTH:
        return text
    shown = text[:_TAG_LENGTH].rpartition(",")[0].split(",")
    return f"{','.join(shown)} and {len(names) - len(shown)} more"


def example_rows(scaling: Affine) -> NDArray[np.float32]:
    """Two rows to show the shape of an input: the mean, and one deviation above it. They are nobody's."""
    return np.stack([scaling.mean, scaling.mean + scaling.std])


def _requirements() -> list[str]:
    packages = ("keras", "tensorflow", "numpy")
    return [f"{package}=={importlib.metadata.version(package)}" for package in packages]


def _ensure_registered_model(run: TrackedRun, plan: Plan) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        run.client.create_registered_model(plan.name, description=plan.description)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
