"""Whether registered versions can be used: their files are whole, and the model answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load

from federated.updates import digest
from tests.chaos import books
from tests.chaos.attempts import PLAN, Training
from tests.chaos.books import Version

_SHAPE = (3, 8, 8, 1)


def unusable(training: Training) -> list[str]:
    """What is wrong with the versions, in sentences. Imports TensorFlow and MLflow."""
    import mlflow

    uri = training.env.get("MLFLOW_TRACKING_URI", f"sqlite:///{training.home / 'mlflow.db'}")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return [
        f"version {version.number}, of round {version.round}: {wrong}"
        for version in books.read(training).versions
        for wrong in _wrong(version)
    ]


def _wrong(version: Version) -> Iterator[str]:
    import mlflow

    try:
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{PLAN}/{version.number}"))
        yield from _changed(folder, json.loads((folder / "round" / "seal.json").read_text())["said"]["files"])
        params = load((folder / "round" / "state.safetensors").read_bytes())["state.params"]
        if digest(params) != version.tags["weights_sha256"]:
            yield "its state has other weights than its tag says"
        if not np.isfinite(mlflow.keras.load_model(str(folder))(np.ones(_SHAPE, np.float32))).all():
            yield "its model answers with NaN"
    except Exception as error:  # whatever it is, the version is of no use
        yield f"it does not load: {error!r}"


def _changed(folder: Path, sealed: Mapping[str, str]) -> Iterator[str]:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(there ^ {*sealed, "round/seal.json"}):
        if name != "registered_model_meta":  # MLflow's own, made by the download
            yield f"{name} is {'missing' if name in sealed else 'too much'}"
    for name in sorted(there & sealed.keys()):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != sealed[name]:
            yield f"{name} is not what was sealed"
