"""The global model of every checkpoint as a registered MLflow version."""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from configs import environment
from configs.plan import Plan
from federated.component import Metrics
from federated.errors import TrainingError
from federated.scaling import Affine
from tasks.records import Block, Committed
from tasks.signing import Signer
from tasks.store import sha256
from tasks.tracking import TrackedRun, storing
from tasks.training import RoundReport, Training

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

ROUND = "round"
STATE, RECORD, SEAL = f"{ROUND}/state.safetensors", f"{ROUND}/record.json", f"{ROUND}/seal.json"
"""Beside the model in a version: the server's state, what the round recorded, and the digests of every file."""

BEFORE = f"{ROUND}/before"
"""The folder with what the interim rounds recorded, those between the version's round and its parent's."""

PLACE = "place"
"""The tag with the signed number of a version."""

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
"""Aliases: what may be promoted, what serves, and what served before."""

_TAG_LENGTH = 4000
_MODEL_ID = "id-of-the-logged-model"  # stands in the folder for what changes with every version


class VersionWriter:
    """Writes versions of one registered model.

    What does not change from round to round (signature, requirements, input example) is made once, in a folder. A
    round rewrites the weights in it, and the folder is uploaded: nothing is inferred again. Not for several threads
    at a time.
    """

    def __init__(self, training: Training, run: TrackedRun, start: Committed, signer: Signer) -> None:
        from models.served_model import ServedModel

        self._plan, self._run, self._signer = training.plan, run, signer
        self._run_key: str = start.record["run_key"]
        spec, parties = training.plan.model, training.federation
        self._folder = Path(tempfile.mkdtemp(prefix="roundhouse-"))
        self._parent: str | None = start.record["start"]
        self._unsure = True
        try:
            with storing("the model's folder"):
                self.served = ServedModel(spec, parties.inputs, parties.classes, parties.scaling)
                self._write_template(example_rows(parties.scaling))
        except Exception:
            self.close()
            raise

    def known(self, block: Block) -> str | None:
        """The version of a block that an attempt before this one registered. MLflow is asked where that may be.

        Raises:
            TrackingError: MLflow cannot be read.
            TrainingError: the version is of another record of its round.
        """
        if not self._unsure:
            return None
        number = block.last.round
        with storing(f"the version of round {number}", verb="find"):
            if block.parent > 0:
                before = self._version_of(block.parent)
                self._parent = self._parent if before is None else str(before.version)
            found = self._version_of(number)
        if found is None:
            return None
        if found.tags.get("record_sha256") != block.last.sha256:
            raise TrainingError(
                f"round {number}: {self._plan.name} version {found.version} has another record of it than the "
                f"checkpoints; train again with another run key than {self._run_key}"
            )
        self._parent = str(found.version)
        return self._parent

    def write(self, committed: Committed, state: bytes, before: Sequence[Committed] = ()) -> str:
        """Registers the model of a round that is not ``known``, with the records of the interim ones ``before`` it.

        Gives its version.

        Raises:
            TrackingError: MLflow or the disk refused.
        """
        with storing(f"the version of round {committed.round}"):
            self._write_records(committed, before)
            version = self._register(committed, state, self._logged_model(committed.round))
        self._unsure, self._parent = False, version
        return version

    def look_first(self) -> None:
        """Something may have been written that nobody heard of: the next version is looked for before it is made."""
        self._unsure = True

    def _register(self, committed: Committed, state: bytes, model: LoggedModel) -> str:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        client, run = self._run.client, self._run
        self._fill_folder(state, model.model_id)
        store = get_artifact_repository(model.artifact_location, tracking_uri=environment.tracking_uri())
        if self._unsure and any(found.path == BEFORE for found in store.list_artifacts(ROUND)):
            store.delete_artifacts(BEFORE)  # an upload that came to no version may have had other rounds
        store.log_artifacts(str(self._folder))
        client.finalize_logged_model(model.model_id, "READY")
        version = client.create_model_version(
            self._plan.name,
            f"models:/{model.model_id}",
            run.run_id,
            tags=tags_of(committed, run.run_id, self._parent),
            model_id=model.model_id,
        )
        self._confirm(str(version.version), model.model_id)
        return str(version.version)

    def _confirm(self, version: str, model_id: str) -> None:
        """Signs which number the model got: known only now.

        MLflow's public client would read all versions first, to see whether they are prompts: 30 ms at a thousand.
        """
        import mlflow
        from mlflow.tracking._model_registry.client import ModelRegistryClient

        signed = self._signer.sign("place", place(self._plan.name, version, model_id)).decode()
        registry = ModelRegistryClient(mlflow.get_registry_uri(), mlflow.get_tracking_uri())
        registry.set_model_version_tag(self._plan.name, version, PLACE, signed)

    def _version_of(self, round: int) -> ModelVersion | None:
        where = f"name = '{self._plan.name}' and run_id = '{self._run.run_id}' and tags.round = '{round}'"
        found = self._run.client.search_model_versions(where, max_results=1)
        if not found:
            return None
        if PLACE not in found[0].tags:
            self._confirm(str(found[0].version), str(found[0].source).rpartition("/")[2])
        return found[0]

    def _logged_model(self, round: int) -> LoggedModel:
        """MLflow's entry for the model of a round: a new one, or the one that an attempt before left unfinished."""
        client, run = self._run.client, self._run
        tags = {"round": str(round), "run_key": self._run_key}
        if self._unsure:
            _ensure_registered_model(run, self._plan)
            where = " AND ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
            left = client.search_logged_models([run.experiment_id], where, max_results=1)
            if left:
                return left[0]
        return client.create_logged_model(run.experiment_id, self._plan.name, run.run_id, tags=tags, model_type="keras")

    def _write_records(self, committed: Committed, before: Sequence[Committed]) -> None:
        shutil.rmtree(self._folder / BEFORE, ignore_errors=True)
        for one in before:
            path = self._folder / before_file(one.round)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(one.signed)
        (self._folder / ROUND).mkdir(exist_ok=True)
        (self._folder / RECORD).write_bytes(committed.signed)

    def _fill_folder(self, state: bytes, model_id: str) -> None:
        """The weights and what is known of them; and last a seal, the signed digests of every file."""
        params = load(state)["state.params"]
        self.served.save(params, self._folder / "data" / "model.keras")
        self._label(model_id)
        (self._folder / STATE).write_bytes(state)
        (self._folder / SEAL).unlink(missing_ok=True)
        files = {
            path.relative_to(self._folder).as_posix(): sha256(path.read_bytes())
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        said = {"model": self._plan.name, "run_id": self._run.run_id, "model_id": model_id, "files": files}
        (self._folder / SEAL).write_bytes(self._signer.sign("seal", said))

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

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


def before_file(round: int) -> str:
    """Where a version has the record of an interim round."""
    return f"{BEFORE}/{round:06d}.json"


def place(name: str, version: str, model_id: str) -> dict[str, str]:
    """What is signed about a version once it has its number."""
    return {"model": name, "version": version, "model_id": model_id}


def tags_of(committed: Committed, run_id: str, parent: str | None) -> dict[str, str]:
    """What the tags of a version repeat of its record."""
    record = committed.record
    cohort = RoundReport.from_json(committed.round, record["report"]).cohort
    tags = {
        "run_id": run_id,
        "run_key": record["run_key"],
        "round": str(committed.round),
        "cohort_size": str(len(cohort)),
        "cohort": _listed(cohort),
        "cohort_sha256": hashlib.sha256("\n".join(cohort).encode()).hexdigest(),
        "plan_sha256": record["plan_sha256"],
        "code_sha256": record["code_sha256"],
        "record_sha256": committed.sha256,
        "weights_sha256": record["weights_sha256"],
    }
    if "privacy" in record:
        tags |= _privacy_tags(record["privacy"], record["report"]["metrics"])
    return tags if parent is None else tags | {"parent_version": parent}


def _privacy_tags(said: dict[str, Any], metrics: Metrics) -> dict[str, str]:
    further = ("epsilon_next", "privacy_rounds_left", "privacy_clients_left")
    ledgers = said["ledgers"].values() if "ledgers" in said else [said]
    return {
        "epsilon": f"{said['epsilon']:.6g}",
        **{name: f"{metrics[name]:.6g}" for name in further if name in metrics},
        "epsilon_means": said["means"],
        "privacy_population": said["population"],
        "privacy_ledger": ", ".join(f"{ledger['entries']} entries to {ledger['head'][:16]}" for ledger in ledgers),
    }


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
