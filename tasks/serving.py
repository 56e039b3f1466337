"""Whether a version serves: loaded as a service would load it, and asked for its own example."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from federated.errors import TrainingError
from tasks.stored import StoredVersion
from tasks.tracking import first_line
from tasks.verifying import opened_sound


class Served(NamedTuple):
    """What a service would see of a version; ``shape`` is that of the predictions for its input example."""

    name: str
    version: str
    shape: tuple[int, ...]
    load_seconds: float
    predict_seconds: float


def serve_check(uri: str) -> Served:
    """Verifies a version, loads it with ``mlflow.pyfunc`` and scores its input example.

    Raises:
        InputError: there is no such version.
        TrainingError: it is not what was registered, cannot be loaded, or predicts nonsense.
        TrackingError: MLflow cannot be read.
    """
    with opened_sound(uri) as found:
        return _served(found.stored)


def _served(stored: StoredVersion) -> Served:
    import mlflow

    which = f"{stored.name}/{stored.version}"
    began = time.perf_counter()
    try:
        model = mlflow.pyfunc.load_model(str(stored.folder))
        example = model.input_example
    except Exception as error:
        raise TrainingError(f"{which} cannot be loaded: {first_line(error)}") from error
    loaded = time.perf_counter()
    try:
        outputs = np.asarray(model.predict(example))
    except Exception as error:
        raise TrainingError(f"{which} cannot predict its own example: {first_line(error)}") from error
    predicted = time.perf_counter()
    if len(outputs) != len(example) or not np.isfinite(outputs).all():
        raise TrainingError(f"{which}: {len(example)} rows gave predictions of shape {outputs.shape}, or NaN")
    return Served(stored.name, stored.version, outputs.shape, loaded - began, predicted - loaded)
