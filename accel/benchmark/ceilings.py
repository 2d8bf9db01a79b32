"""The ceilings of a machine: what no pass can exceed. Measured in the same run as the passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from accel.backends import Backend

READ_BYTES = 512 << 20
READS = 4  # in a call: on a GPU one takes 0.1 ms, and to wait for it 0.02
MATRIX_SIZE = 2048
TRANSFER_BYTES = 256 << 20


def reading(backend: Backend) -> Callable[[], Any]:
    """Read `READ_BYTES` once."""
    X = backend.asarray(np.ones((READ_BYTES // 4096, 1024), dtype=np.float32))
    read = backend.reader(X)

    def call() -> None:
        for _ in range(READS):
            read()
        backend.synchronize()

    return call


def multiplying(backend: Backend) -> Callable[[], Any]:
    """One product of two float32 matrices of `MATRIX_SIZE`."""
    A = backend.asarray(np.full((MATRIX_SIZE, MATRIX_SIZE), 0.5, dtype=np.float32))

    def call() -> None:
        A @ A
        backend.synchronize()

    return call


def sending(backend: Backend) -> Callable[[], Any]:
    """Copy `TRANSFER_BYTES` from ordinary memory of the host to the device."""
    return _sending(backend, np.ones(TRANSFER_BYTES // 4, dtype=np.float32))


def sending_pinned(backend: Backend) -> Callable[[], Any]:
    """Copy `TRANSFER_BYTES` from memory of the host that the device reads directly."""
    pinned = backend.uploader().host((TRANSFER_BYTES // 4,), np.dtype(np.float32))
    pinned[...] = 1
    return _sending(backend, pinned)


def _sending(backend: Backend, X: Any) -> Callable[[], Any]:
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
    "read bandwidth": (reading, READS * READ_BYTES / 1e9, "GB/s"),
    "matrix rate": (multiplying, 2 * MATRIX_SIZE**3 / 1e9, "GFLOP/s"),
    "host to device": (sending, TRANSFER_BYTES / 1e9, "GB/s"),
    "host to device, pinned": (sending_pinned, TRANSFER_BYTES / 1e9, "GB/s"),
    "device to host": (fetching, TRANSFER_BYTES / 1e9, "GB/s"),
}
ONLY_DEVICES = ("host to device", "host to device, pinned", "device to host")
