"""An NVIDIA GPU through CuPy."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

import array_api_compat as compat
import numpy as np

from accel.backends.base import (
    BackendReport,
    BackendUnavailable,
    StepKernels,
    halved_until,
    row_blocks,
)
from accel.backends.cuda.adam import AdamUpdate
from accel.backends.cuda.columns import column_sums
from accel.backends.cuda.linear_pass import CudaPass
from accel.backends.cuda.reading import reader
from accel.backends.cuda.source import LOSSES, STORAGE
from accel.backends.cuda.tensor_cores import TensorCoreProduct
from accel.backends.cupy_probe import cuda_version, is_out_of_memory, prove
from accel.backends.interchange import bytes_of, is_sparse, to_host
from accel.backends.linear_model import LinearModel, LinearPass
from accel.backends.precision import Product, rounded_product
from accel.backends.streaming import Pipeline

# Rows are cut where what a pass makes of them would take more than this part of the GPU's memory,
# never for a cache: a block costs some 25 launches. The part of all memory, not of what is free, so
# that the same X is cut alike and gives the same bits. TF32 stays off (CuPy's default) unless the
# environment variable CUPY_TF32=1 asks for it.
WORKING_PART = 8
UNKNOWN_BYTES = 8 << 30  # of memory, where the driver does not tell
# Of the free memory, what a fit may take; the rest is for libraries and fragments.
ROOM_SHARE = 0.8
# A streamed block, and how many of them are in use: two as they are stored, one as it is computed
# on, and what comes of it.
STREAM_BYTES = 256 << 20
COPIES = 8
AMPERE = 80  # compute capability

# 0 turns the fused kernels off: passes are then the formulas, run by CuPy over all rows.
KERNELS_VARIABLE = "ACCEL_CUDA_KERNELS"


@dataclass(frozen=True)
class CupyBackend:
    """CuPy on one GPU; see `accel.backends.Backend`."""

    name: str
    cupy: Any
    xp: Any
    device: Any
    block_bytes: int = UNKNOWN_BYTES // WORKING_PART
    fallback: str = ""
    cut: int = 1  # blocks are so many times smaller
    is_host: ClassVar[bool] = False

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """The array in the memory of this GPU; torch CUDA tensors come in without a copy."""
        if is_sparse(array):
            with self.device:
                return importlib.import_module("cupyx.scipy.sparse").csr_matrix(array)
        if compat.is_torch_array(array):
            on_gpu = owner(array) is not None
            array = array.detach().resolve_neg()
            array = self.cupy.from_dlpack(array) if on_gpu else to_host(array)
        with self.device:
            # from pinned memory CuPy copies behind the caller's back, who may write over it next
            blocking = _is_pinned(self.cupy, array)
            return self.cupy.asarray(array, dtype=dtype, blocking=blocking)

    def to_numpy(self, array: Any) -> Any:
        """A copy in host memory; waits for the GPU."""
        return self.cupy.asnumpy(array)

    def scalars(self, *values: Any) -> tuple[float, ...]:
        """0-d arrays as floats, in one transfer."""
        with self.device:
            stacked = self.cupy.stack([value.astype(self.cupy.float64) for value in values])
            return tuple(stacked.get().tolist())

    def synchronize(self) -> None:
        """Wait for the current stream of this GPU."""
        with self.device:
            self.cupy.cuda.get_current_stream().synchronize()

    def context(self) -> AbstractContextManager[Any]:
        """Inside it, this GPU is the current one."""
        device: AbstractContextManager[Any] = self.device
        return device

    def map_blocks(
        self, function: Callable[[slice], Any], n_rows: int, row_bytes: int
    ) -> Iterator[Any]:
        """All rows at once, or one block after the other where memory asks for it."""
        yield from map(function, row_blocks(n_rows, row_bytes, self.block_bytes // self.cut))

    def temporary_bytes(self, n_rows: int, row_bytes: int) -> int:
        """Those of all rows, or of a block."""
        return min(n_rows * row_bytes, self.block_bytes // self.cut)

    def many_products(self, n_rows: int, row_bytes: int) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Nothing to arrange on a GPU."""
        return nullcontext()

    def many_steps(self, flops: float) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Nothing to arrange on a GPU."""
        return nullcontext()

    def linear_pass(self, model: LinearModel, X: Any, factor: Any, shift: Any) -> LinearPass | None:
        """Kernels that read X once, or two products; None where `KERNELS_VARIABLE` is 0."""
        if not self._has_kernels or model.loss not in LOSSES or str(X.dtype) not in STORAGE:
            return None
        return CudaPass(self.cupy, self.device.id, model, factor, shift, n_bytes=bytes_of(X))

    def block_pass(self, loss: str, X: Any, n_outputs: int) -> None:
        """None: a pass runs over all rows."""

    def column_sums(self, X: Any, s: Any) -> tuple[Any, Any, Any] | None:
        """By the kernels of the passes, unless `KERNELS_VARIABLE` is 0."""
        return column_sums(self.cupy, self.device.id, X, s) if self._has_kernels else None

    def reader(self, X: Any) -> Callable[[], None]:
        """By a kernel that reads; the GPU is not waited for."""
        return reader(self.cupy, self.device.id, X)

    def product(self, precision: str) -> Product | None:
        """The tensor cores', where this GPU has them."""
        if self.emulates(precision):
            return rounded_product(precision, xp=self.xp)
        return None if precision == "float32" else TensorCoreProduct(self.cupy, precision)

    def emulates(self, precision: str) -> bool:
        """Below compute capability 8.0 there are neither TF32 nor bfloat16 tensor cores."""
        return precision != "float32" and int(self.device.compute_capability) < AMPERE

    def step_kernels(self, params: Any, steps: int) -> StepKernels:  # noqa: ARG002
        """The fused Adam, unless `KERNELS_VARIABLE` is 0."""
        if not self._has_kernels:
            return StepKernels()
        return StepKernels(AdamUpdate(self.cupy, str(params.dtype)))

    @property
    def _has_kernels(self) -> bool:
        return os.environ.get(KERNELS_VARIABLE) != "0"

    def gather(self, X: Any, rows: Any, out: Any) -> None:
        """cupy.take; it wraps places that are out of bounds, so there must be none."""
        self.cupy.take(X, rows, axis=0, out=out)

    def streamer(self, block_rows: int, row: Any) -> Pipeline:
        """Read ahead into pinned buffers, copied on a second stream."""
        return Pipeline(self, block_rows, row)

    def stream_bytes(self, room: int) -> int:
        """Long enough for a copy to run at the rate of the link."""
        return halved_until(STREAM_BYTES // self.cut, room // COPIES)

    def free_bytes(self) -> int:
        """Free memory and what the pool keeps, less a share for the fit."""
        with self.device:
            pool = self.cupy.get_default_memory_pool()
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            free += pool.free_bytes()
            if pool.get_limit():  # CUPY_GPU_MEMORY_LIMIT, 0 for none
                free = min(free, pool.get_limit() - pool.used_bytes())
        return int(ROOM_SHARE * free)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """CuPy's error, CUDA's own (pinned memory, cuBLAS), or the host's."""
        return isinstance(error, MemoryError) or is_out_of_memory(self.cupy, error)

    def release(self) -> None:
        """Empty the pools of device and pinned memory."""
        with self.device:
            self.cupy.get_default_memory_pool().free_all_blocks()
            self.cupy.get_default_pinned_memory_pool().free_all_blocks()

    def with_smaller_blocks(self) -> CupyBackend:
        """Blocks of a quarter."""
        return replace(self, cut=4 * self.cut)

    def uploader(self) -> StreamUploader:
        """Copies on a stream of their own, from pinned memory."""
        return StreamUploader(self.cupy, self.device)

    def load_kernels(self) -> None:
        """CuPy compiles them at their first use."""

    def report(self) -> BackendReport:
        """GPU, its memory, CuPy, CUDA runtime and driver."""
        runtime = self.cupy.cuda.runtime
        properties = runtime.getDeviceProperties(self.device.id)
        return BackendReport(
            name=self.name,
            usable=True,
            device=properties["name"].decode(),
            memory_bytes=int(properties["totalGlobalMem"]),
            libraries={
                "cupy": self.cupy.__version__,
                "cuda runtime": cuda_version(runtime.runtimeGetVersion()),
                "cuda driver": cuda_version(runtime.driverGetVersion()),
            },
            fallback=self.fallback,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened anew where it is unpickled: modules and devices do not travel."""
        return _reopened, (self.device.id, self.fallback, self.cut)

    def with_fallback(self, reason: str) -> CupyBackend:
        """A copy that remembers why "auto" did not take a backend it prefers."""
        return replace(self, fallback=reason)


class StreamUploader:
    """Copies on a second stream from pinned memory; see `accel.backends.base.Uploader`.

    Parameters
    ----------
    cupy : module
        CuPy.
    device : cupy.cuda.Device
        The GPU.
    """

    def __init__(self, cupy: Any, device: Any) -> None:
        self._cupy, self._device = cupy, device
        with device:
            self._stream = cupy.cuda.Stream(non_blocking=True)

    def host(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An empty pinned array."""
        return importlib.import_module("cupyx").empty_pinned(shape, dtype)

    def upload(self, host: Any, out: Any) -> Any:
        """Start the copy after what the current stream does now; the event that ends it."""
        with self._device:
            self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
            out.set(host, stream=self._stream)
            return self._stream.record()

    def wait_on_device(self, token: Any) -> None:
        """Let the current stream wait."""
        with self._device:
            self._cupy.cuda.get_current_stream().wait_event(token)

    def wait_on_host(self, token: Any) -> None:
        """Wait for the event."""
        token.synchronize()


def _is_pinned(cupy: Any, array: Any) -> bool:
    """Whether a NumPy array lies in host memory that the GPU reads directly."""
    if not isinstance(array, np.ndarray):
        return False
    runtime = cupy.cuda.runtime
    kind = runtime.pointerGetAttributes(array.ctypes.data).type
    return bool(kind == runtime.memoryTypeHost)


def _reopened(index: int, fallback: str, cut: int) -> CupyBackend:
    return replace(open_backend(index), fallback=fallback, cut=cut)


def open_backend(index: int) -> CupyBackend:
    """The backend on GPU `index`, probed once; raises BackendUnavailable with the reason."""
    backend, refusal = _probe_once(index)
    if refusal is None:
        opened: CupyBackend = backend
        return opened
    if not refusal.is_lasting:
        _probe_once.cache_clear()
    raise BackendUnavailable(*refusal.args)


def owner(array: Any) -> int | None:
    """The GPU on which a cupy array or torch CUDA tensor lies; None for any other array."""
    if compat.is_cupy_array(array):
        return int(array.device.id)
    if compat.is_torch_array(array) and array.is_cuda:
        return int(array.device.index)
    return None


@cache
def _probe_once(index: int) -> tuple[Any, BackendUnavailable | None]:
    try:
        return probe(index, importlib.import_module), None
    except BackendUnavailable as refusal:
        return None, refusal


def probe(index: int, import_module: Callable[[str], Any]) -> CupyBackend:
    """The backend on GPU `index`, by the proof of `cupy_probe.prove`; raises BackendUnavailable."""
    proven = prove(index, import_module)
    properties = proven.cupy.cuda.runtime.getDeviceProperties(index)
    memory_bytes = properties.get("totalGlobalMem") or UNKNOWN_BYTES
    return CupyBackend(*proven, block_bytes=int(memory_bytes) // WORKING_PART)
