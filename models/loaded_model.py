"""A registered model as a service would load it: raw rows in, predictions out."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from federated.data import Split
from federated.engine import Scores
from federated.errors import TrainingError

_ROWS_AT_ONCE = 4096
_TIMED = 21


class LoadedModel:
    """A ``.keras`` file, without its training configuration and without code of its own.

    Only for files whose origin is known: see ``tasks.verifying``.

    Raises:
        TrainingError: Keras cannot load it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._model = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise TrainingError(
                f"the model cannot be loaded: {reason}; register layers of your own "
                "with keras.saving.register_keras_serializable"
            ) from error

    @property
    def inputs(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self._model.input_shape[1:])

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions, shape (rows, units)."""
        pieces = [
            np.asarray(self._model(rows[at : at + _ROWS_AT_ONCE], training=False))
            for at in range(0, len(rows), _ROWS_AT_ONCE)
        ]
        return np.concatenate(pieces)

    def score(self, data: Split, classes: int | None) -> Scores:
        """One number a row for each metric, from predictions for raw rows; NaN where they cannot be made."""
        names = ("loss", "mae") if classes is None else ("loss", "accuracy")
        if data.x.shape[1:] != self.inputs or (outputs := self.predict(data.x)).shape[1] != _units(classes):
            nothing = np.full(len(data), np.nan)
            return dict.fromkeys(names, nothing)
        if classes is None:
            errors = outputs[:, 0] - data.y
            return {"loss": np.square(errors), "mae": np.abs(errors)}
        # A probability that was rounded to 1 leaves half of what single precision can tell from 1.
        chances = np.column_stack([np.maximum(1 - outputs, 2.0**-25), outputs]) if classes == 2 else outputs
        likelihood = chances[np.arange(len(data)), data.y].astype(np.float64)
        with np.errstate(divide="ignore"):
            loss = -np.log(np.maximum(likelihood, np.finfo(np.float32).tiny))
        return {"loss": loss, "accuracy": (chances.argmax(axis=1) == data.y).astype(np.float64)}

    def latency(self, rows: NDArray[np.float32]) -> float:
        """Seconds that predictions for ``rows`` take in one call: the median of many."""
        if rows.shape[1:] != self.inputs:
            return float("nan")
        return statistics.median(self._timed(rows) for _ in range(_TIMED))

    def _timed(self, rows: NDArray[np.float32]) -> float:
        began = time.perf_counter()
        np.asarray(self._model(rows, training=False))
        return time.perf_counter() - began


def _units(classes: int | None) -> int:
    return 1 if classes is None or classes == 2 else classes
