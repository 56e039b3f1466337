"""Gradient inversion: what a model's first dense layer tells of the rows it was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dense_input(kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> NDArray[np.float64]:
    """The input that a dense layer was trained on, from how its kernel and bias moved; shape (inputs,).

    ``kernel`` has shape (inputs, units), ``bias`` (units,). After one step of gradient descent on one example, each
    unit's column of the kernel moved by the input times the movement of the unit's bias (Phong et al. 2018;
    Zhu et al. 2019). This is the least-squares solution over all units: exact for one example in one step, a mixture
    of inputs for more of them, and for noise the best guess where that is the same in every coordinate.

    Raises:
        ValueError: the shapes do not match, or no bias moved: then the layer tells nothing this way.
    """
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise ValueError(f"expected a kernel (inputs, units) and a bias (units,), got {kernel.shape} and {bias.shape}")
    moved = bias.astype(np.float64)
    square = float(moved @ moved)
    if square == 0:
        raise ValueError("expected a bias that moved, got zeros: the layer was not trained")
    return kernel.astype(np.float64) @ moved / square
