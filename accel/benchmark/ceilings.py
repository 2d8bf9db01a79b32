"""The ceilings of a machine: what no pass can exceed. Measured in the same run as the passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.backends import Backend

READ_BYTES = 512 << 20
MATRIX_SIZE = 2048
TRANSFER_BYTES = 256 << 20


def reading(backend: Backend) -> Callable[[], Any]:
    """Read `READ_BYTES` of float32 once, on as many threads as a pass uses.

    On the CPU with numba a sum that does nothing else; elsewhere the sum of the array library.
    """
    xp = backend.xp
    X = backend.asarray(np.ones((READ_BYTES // 4096, 1024), dtype=np.float32))
    try:
        from accel.backends.kernels.ceiling import total
    except ImportError:
        total = xp.sum
    add = total if backend.name == "numpy" else xp.sum

    def call() -> float:
        parts = backend.map_blocks(lambda rows: add(X[rows, :]), X.shape[0], 4096)
        return sum(float(part) for part in parts)

    return call


def multiplying(backend: Backend) -> Callable[[], Any]:
    """One product of two float32 matrices of `MATRIX_SIZE`."""
    A = backend.asarray(np.full((MATRIX_SIZE, MATRIX_SIZE), 0.5, dtype=np.float32))

    def call() -> None:
        A @ A
        backend.synchronize()

    return call


def sending(backend: Backend) -> Callable[[], Any]:
    """Copy `TRANSFER_BYTES` from the host to the device."""
    X = np.ones(TRANSFER_BYTES // 4, dtype=np.float32)

    def call() -> None:
        backend.asarray(X)
        backend.synchronize()

    return call


def fetching(backend: Backend) -> Callable[[], Any]:
    """Copy `TRANSFER_BYTES` from the device to the host."""
    X = backend.asarray(np.ones(TRANSFER_BYTES // 4, dtype=np.float32))
    return lambda: backend.to_numpy(X)


# name -> (who is measured, amount of one call, unit of the rate)
CEILINGS: dict[str, tuple[Callable[[Backend], Callable[[], Any]], float, str]] = {
    "read bandwidth": (reading, READ_BYTES / 1e9, "GB/s"),
    "matrix rate": (multiplying, 2 * MATRIX_SIZE**3 / 1e9, "GFLOP/s"),
    "host to device": (sending, TRANSFER_BYTES / 1e9, "GB/s"),
    "device to host": (fetching, TRANSFER_BYTES / 1e9, "GB/s"),
}
ONLY_DEVICES = ("host to device", "device to host")
