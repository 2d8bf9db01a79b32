"""Closeness: namespace, dtype, shape and device first, numbers after; one table of tolerances."""

from __future__ import annotations

import array_api_compat as compat
import numpy as np

from accel.backends.interchange import namespace

# Exceptions to 4 sqrt(eps), with their reasons.
TOLERANCE = {
    "elementwise": lambda eps: 64 * eps,  # a handful of correctly rounded operations
    "default": lambda eps: 4 * eps**0.5,
}


def dtype_name(array):
    return str(array.dtype).rpartition(".")[2]


def assert_close(backend, actual, desired, *, dtype="float64", kind="default", scale=1.0):
    """actual, an array of the backend and of this dtype, equals desired, a NumPy array."""
    desired = np.asarray(desired)
    assert namespace(actual) is backend.xp or namespace(actual).__name__ == backend.xp.__name__
    assert dtype_name(actual) == dtype
    assert tuple(actual.shape) == desired.shape
    if backend.name != "numpy":
        assert compat.device(actual) == backend.device
    tolerance = TOLERANCE[kind](float(np.finfo(dtype_name(actual)).eps))
    np.testing.assert_allclose(
        backend.to_numpy(actual), desired, rtol=tolerance, atol=tolerance * scale
    )
