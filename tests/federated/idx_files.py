"""IDX files written by hand, for tests of what reads them."""

from __future__ import annotations

import struct
from typing import Any

from numpy.typing import NDArray

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def packed_idx(values: NDArray[Any]) -> bytes:
    """The file of an array: magic number, dimensions, values, all big-endian."""
    code = CODES[values.dtype.str[1:]]
    header = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    return header + b"".join(struct.pack(f">{values.dtype.char}", value) for value in values.ravel().tolist())
