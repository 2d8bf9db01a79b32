"""Adam's update on the CPU, compiled by Numba: one pass over the parameters instead of twelve."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.backends.kernels.cpu import compiled

Array = Any


def adam(
    params: Array,
    gradient: Array,
    m: Array,
    v: Array,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    rate: float,
) -> None:
    """Move the moments and the parameters; the formula is `accel.solvers.rules.Adam`'s."""
    real = params.dtype.type
    numbers = (beta_1, 1 - beta_1, beta_2, 1 - beta_2, epsilon, rate)
    _update(params, gradient, m, v, *map(real, numbers))


@compiled(error_model="numpy")  # a division by zero is no error, so the loop can be vectors
def _update(
    params: Array,
    gradient: Array,
    m: Array,
    v: Array,
    b1: np.floating[Any],
    c1: np.floating[Any],
    b2: np.floating[Any],
    c2: np.floating[Any],
    epsilon: np.floating[Any],
    rate: np.floating[Any],
) -> None:
    for i in range(params.size):
        g = gradient[i]
        first = b1 * m[i] + c1 * g
        second = b2 * v[i] + c2 * (g * g)
        m[i] = first
        v[i] = second
        params[i] -= rate * (first / (np.sqrt(second) + epsilon))
