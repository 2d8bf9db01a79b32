"""The stand-in for a GPU: array_api_strict on a device that is not the CPU, every door counted.

It has the two functions of a backend module, so a line in `BACKENDS` is all it takes to install it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import ClassVar

import array_api_strict
import numpy as np

from accel.backends.base import BackendReport, PlainUploader, StepKernels, halved_until, row_blocks
from accel.backends.interchange import with_out
from accel.backends.precision import rounded_product
from accel.backends.streaming import Pipeline

xp = with_out(array_api_strict)

DEVICE = xp.Device("device1")
HOST = xp.Device("CPU_DEVICE")
IMPLICIT = ("__float__", "__bool__", "__int__", "__index__", "__complex__")


@dataclass(frozen=True)
class StrictBackend:
    name: str = "strict"
    xp: object = xp
    device: object = DEVICE
    fallback: str = ""
    n_blocks: int = 3  # ordinary test data is cut, however small it is
    room_bytes: int = 1 << 40
    block_bytes: int = 3 << 15  # of a stream, cut like those of an array
    count: Counter = field(default_factory=Counter)
    is_host: ClassVar[bool] = False

    def asarray(self, array, dtype=None):
        self.count["asarray"] += 1
        if isinstance(array, type(xp.empty(0))):
            return xp.asarray(array.to_device(DEVICE), dtype=dtype)
        array = np.asarray(array)
        if dtype is not None:
            array = array.astype(str(dtype).rpartition(".")[2])
        return xp.asarray(array, device=DEVICE)

    def to_numpy(self, array):
        self.count["to_numpy"] += 1
        return np.asarray(array.to_device(HOST)).copy()

    def scalars(self, *values):
        self.count["scalars"] += 1
        return tuple(float(value._array) for value in values)

    def synchronize(self):
        self.count["synchronize"] += 1

    def context(self):
        return nullcontext()

    def map_blocks(self, function, n_rows, row_bytes):
        self.count["passes"] += 1
        rows = max(1, -(-n_rows // self.n_blocks))
        return map(function, row_blocks(n_rows, 1, rows))

    def temporary_bytes(self, n_rows, row_bytes):
        return 0

    def many_products(self, n_rows, row_bytes):
        return nullcontext()

    def many_steps(self, flops):
        return nullcontext()

    def linear_pass(self, model, X, factor, shift):
        return None

    def block_pass(self, loss, X, n_outputs):
        return None

    def column_sums(self, X, s):
        return None

    def reader(self, X):
        return lambda: xp.sum(X)

    def product(self, precision):
        return rounded_product(precision, xp=self.xp)

    def emulates(self, precision):
        return precision != "float32"

    def step_kernels(self, params, steps):
        return StepKernels()

    def gather(self, X, rows, out):
        xp.take(X, rows, axis=0, out=out)

    def streamer(self, block_rows, row):
        return Pipeline(self, block_rows, row)

    def stream_bytes(self, room):
        return halved_until(self.block_bytes // self.n_blocks, room)

    def free_bytes(self):
        return self.room_bytes

    def is_out_of_memory(self, error):
        return isinstance(error, MemoryError)

    def release(self):
        self.count["release"] += 1

    def with_smaller_blocks(self):
        return replace(self, n_blocks=4 * self.n_blocks)

    def uploader(self):
        return PlainUploader(self.asarray)

    def load_kernels(self):
        pass

    def report(self):
        return BackendReport(self.name, True, "array_api_strict", fallback=self.fallback)

    def with_fallback(self, reason):
        return replace(self, fallback=reason)


def open_backend(index):
    return StrictBackend()


def owner(array):
    return 0 if isinstance(array, type(xp.empty(0))) and array.device == DEVICE else None


@contextmanager
def hidden_synchronisations(monkeypatch):
    """Counts float(), bool(), int() of device arrays: what would make a GPU wait unseen."""
    seen = Counter()
    array_type = type(xp.empty(0))
    with monkeypatch.context() as patch:
        for name in IMPLICIT:
            original = getattr(array_type, name)

            def counted(self, *args, original=original, name=name):
                seen[name] += 1
                return original(self, *args)

            patch.setattr(array_type, name, counted)
        yield seen
