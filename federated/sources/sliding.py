"""Windows that slide over one client's sequence, and which of them are for testing."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from federated.data import Rows


class Starts(NamedTuple):
    """Where windows begin: the last share of the sequence is for testing, what comes before for training."""

    train: Rows
    test: Rows


def starts(length: int, span: int, step: int, test_share: float) -> Starts:
    """Where windows of ``span`` places begin in a sequence of ``length``, every ``step`` places.

    *Guarantees:* no window to train on shares a place with one to test on: those across the cut are left out. The cut
    leaves at least ``test_share`` of the places behind it.
    """
    cut = length - math.ceil(test_share * length - 1e-9)
    first = np.arange(0, length - span + 1, step, dtype=np.int64)
    return Starts(first[first + span <= cut], first[first >= cut])
