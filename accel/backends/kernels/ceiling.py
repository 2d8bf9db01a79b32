"""Reading memory and nothing else: the ceiling of every pass on the CPU."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np


@nb.njit(nogil=True, fastmath=True)
def total(X: Any) -> Any:
    """Sum of a float32 matrix."""
    value = np.float32(0)
    for i in range(X.shape[0]):
        for j in range(X.shape[1]):
            value += X[i, j]
    return value
