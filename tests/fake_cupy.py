"""A cupy that works on the host and fails where it is told to: for the probe and the backend.

It refuses what CuPy refuses (NumPy conversion, arrays of another device than the current one) and
records the device that is current.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class OutOfMemoryError(MemoryError):
    pass


def fake_cupy(
    *, count=1, count_error=None, driver=12080, empty=None, kernel=None, matmul=None, pinned=()
):
    current = [0]

    class Device:
        def __init__(self, index=None):
            self.id = current[-1] if index is None else index

        def __enter__(self):
            current.append(self.id)
            return self

        def __exit__(self, *exception):
            current.pop()

    class Array(np.ndarray):
        """Lies on the device that was current when it was made."""

        def __array_finalize__(self, source):
            self.home = current[-1]

        def __matmul__(self, other):
            if matmul:
                raise matmul
            return np.matmul(np.asarray(self), np.asarray(other)).view(Array)

        def get(self):
            return np.array(self.view(np.ndarray))

    def compiling(function):
        def run(*arguments, **options):
            if kernel:
                raise kernel
            return np.asarray(function(*arguments, **options)).view(Array)

        return run

    def make_empty(shape, dtype):
        if empty:
            raise empty
        return np.empty(shape, dtype).view(Array)

    blocked = []  # of each array that came in, whether its copy was waited for

    def asarray(array, dtype=None, blocking=False):
        blocked.append(blocking)
        return np.asarray(array, dtype=dtype).view(Array)

    class RawKernel:
        def __init__(self, source, name):
            self.name = name

        def __call__(self, grid, block, arguments):
            if kernel:
                raise kernel
            arguments[0][:] *= 2

    def device_count():
        if count_error:
            raise count_error
        return count

    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=device_count,
        memoryTypeHost=1,
        pointerGetAttributes=lambda place: SimpleNamespace(type=int(place in pinned)),
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceProperties=lambda index: {
            "name": b"Fake GPU",
            "totalGlobalMem": 2**33,
            "l2CacheSize": 50 << 20,
        },
    )
    return SimpleNamespace(
        __version__="14.0",
        current=current,
        ndarray=Array,
        float32=np.float32,
        float64=np.float64,
        empty=make_empty,
        ones=compiling(np.ones),
        asarray=asarray,
        blocked=blocked,
        asnumpy=lambda array: array.get(),
        stack=compiling(lambda arrays: np.stack([np.asarray(a) for a in arrays])),
        RawKernel=RawKernel,
        cuda=SimpleNamespace(
            runtime=runtime,
            Device=Device,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
        ),
    )


def import_fake(cupy):
    """In the role of importlib.import_module."""
    return lambda name: cupy if name == "cupy" else np
