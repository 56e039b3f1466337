"""A process of its own that has several logical devices: TensorFlow must not have started before they are cut."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

_BEGINNING = """
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * {devices})
tf.debugging.set_log_device_placement(True)
"""


def run_with(devices: int, code: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` to its end, on so many CPU devices."""
    return subprocess.run(
        [sys.executable, "-c", _BEGINNING.format(devices=devices) + code],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def devices_of(operation: str, done: subprocess.CompletedProcess[str]) -> set[int]:
    """The numbers of the devices on which operations of this type were placed."""
    return {int(number) for number in re.findall(rf"\({operation}\): \S*device:CPU:(\d+)", done.stdout + done.stderr)}
