"""TensorFlow starts as the engine wants it, whichever test comes first."""

import pytest

from models.devices import prepare_devices


@pytest.fixture(scope="session", autouse=True)
def _devices() -> None:
    prepare_devices()
