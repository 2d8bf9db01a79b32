"""The CPU: NumPy arrays, row blocks on threads, and a fused pass where it pays."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from accel.backends import memory
from accel.backends.base import (
    BackendReport,
    BackendUnavailable,
    PlainUploader,
    StepKernels,
    first_line,
    halved_until,
    row_blocks,
)
from accel.backends.interchange import is_sparse, to_host
from accel.backends.linear_model import LinearModel
from accel.backends.precision import Product, rounded_product
from accel.backends.threads import ONE_BLAS_THREAD, ThreadedStream, n_threads, on_threads
from accel.interrupts import Interrupts

# Both products of a block find it in the last-level cache, and a block is long enough for BLAS to
# run at its full rate on one thread and for the calls around it to cost nothing.
BLOCK_BYTES = 16 << 20
# Below this, most of X stays in the last-level cache between the two products and BLAS with its own
# threads is fastest: nothing to gain from blocks.
WHOLE_BYTES = 48 << 20
# The fused pass costs an import of numba (0.5 s) and, once, a compilation: it needs enough to read,
# counted as float32 where X is more compact, since that is what row blocks would expand it to.
FUSED_BYTES = 64 << 20
# A streamed block: a read this long runs at the full rate, and what it brought is still in a cache
# when it is computed on (measured, page cache: 27 GB/s with 8 MiB, 24.5 with 4, 20.5 with 16).
STREAM_BYTES = 8 << 20
FEWEST_READERS = 2  # threads, so that one reads while another computes
COPIES = 6  # a block as it is read, as it is computed on, and what comes of it
# A product of fewer operations is as fast on one thread as on two (measured, batches of 256).
THREADED_FLOPS = 5e6
# Updates of a parameter in an epoch from which the fused step, a nanosecond less each, is used:
# 10 ms an epoch. Whatever the number of epochs, so that a longer run begins as a shorter one.
FUSED_UPDATES = 10**7


@dataclass(frozen=True)
class NumpyBackend:
    """NumPy on the CPU; see `accel.backends.Backend`."""

    name: str = "numpy"
    xp: Any = np
    device: Any = "cpu"
    fallback: str = ""
    cut: int = 1  # blocks are so many times smaller
    is_host: ClassVar[bool] = True

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """The array in host memory."""
        host = to_host(array)
        return host if is_sparse(host) else np.asarray(host, dtype=dtype)

    def to_numpy(self, array: Any) -> Any:
        """The array itself."""
        return np.asarray(array)

    def scalars(self, *values: Any) -> tuple[float, ...]:
        """The values as floats."""
        return tuple(float(value) for value in values)

    def synchronize(self) -> None:
        """Nothing runs behind NumPy's back."""

    def context(self) -> AbstractContextManager[Any]:
        """The CPU is always current."""
        return nullcontext()

    def map_blocks(
        self, function: Callable[[slice], Any], n_rows: int, row_bytes: int
    ) -> Iterator[Any]:
        """Blocks on as many threads as BLAS may use, with BLAS itself single-threaded inside."""
        if n_rows * row_bytes <= WHOLE_BYTES // self.cut:
            yield function(slice(0, n_rows))
            return
        blocks = row_blocks(n_rows, row_bytes, BLOCK_BYTES // self.cut)
        threads = min(-(-n_threads() // self.cut), len(blocks))
        if threads == 1:
            yield from map(function, blocks)
            return
        yield from on_threads(function, blocks, threads)

    def temporary_bytes(self, n_rows: int, row_bytes: int) -> int:  # noqa: ARG002
        """A few blocks of the size of a cache do not count."""
        return 0

    def many_products(self, n_rows: int, row_bytes: int) -> AbstractContextManager[Any]:
        """BLAS on one thread where a pass is one small block.

        Thousands of small products in a row, each handed to BLAS's threads, stand still where
        another process holds a core: 10 s instead of 1 s (measured on 1797 x 64 x 50).
        """
        return ONE_BLAS_THREAD if n_rows * row_bytes <= WHOLE_BYTES else nullcontext()

    def many_steps(self, flops: float) -> AbstractContextManager[Any]:
        """BLAS on one thread where a second gains nothing, for the same reason."""
        return ONE_BLAS_THREAD if flops < THREADED_FLOPS else nullcontext()

    def linear_pass(self, model: LinearModel, X: Any, factor: Any, shift: Any) -> None:
        """Blocks of rows, on threads."""

    def block_pass(self, loss: str, X: Any, n_outputs: int) -> Callable[..., Any] | None:
        """The fused Numba pass for a few outputs and an X that is large and lies in rows."""
        if is_sparse(X):
            return None
        if X.size * max(4, X.dtype.itemsize) < FUSED_BYTES or not X.flags.c_contiguous:
            return None
        cpu, _ = _kernels()
        if cpu is None or n_outputs > cpu.MOST_OUTPUTS or str(X.dtype) not in cpu.STORAGE:
            return None
        fused: Callable[..., Any] | None = cpu.PASSES.get(loss)
        return fused

    def column_sums(self, X: Any, s: Any) -> None:
        """None: as the formulas stand."""

    def reader(self, X: Any) -> Callable[[], None]:
        """By a sum, on as many threads as a pass uses; NumPy's where numba is missing."""
        total: Callable[[Any], Any] = np.sum
        with suppress(ImportError):
            total = importlib.import_module("accel.backends.kernels.ceiling").total

        def read() -> None:
            rows = self.map_blocks(lambda rows: total(X[rows, :]), X.shape[0], X[:1].nbytes)
            for _ in rows:
                pass

        return read

    def product(self, precision: str) -> Product | None:
        """Factors rounded as a GPU's tensor cores round them; no faster."""
        return rounded_product(precision, xp=np)

    def emulates(self, precision: str) -> bool:
        """Whatever is not float32."""
        return precision != "float32"

    def step_kernels(self, params: Any, steps: int) -> StepKernels:
        """Numba's, where some tens of epochs save more than the import of numba costs."""
        if params.size * steps < FUSED_UPDATES:
            return StepKernels()
        cpu, _ = _kernels()
        if cpu is None:
            return StepKernels()
        from accel.backends.kernels.adam_cpu import adam

        return StepKernels(adam, cpu.RESIDUALS)

    def gather(self, X: Any, rows: Any, out: Any) -> None:
        """numpy.take; "clip" because with the default mode it works through a copy of out."""
        np.take(X, rows, axis=0, out=out, mode="clip")

    def streamer(self, block_rows: int, row: Any) -> ThreadedStream:
        """Each thread reads a block and computes on it."""
        threads = -(-max(FEWEST_READERS, n_threads()) // self.cut)
        return ThreadedStream((block_rows, row.shape[1]), row.dtype, threads)

    def stream_bytes(self, room: int) -> int:
        """As in memory, if every thread may have a few blocks."""
        threads = max(FEWEST_READERS, n_threads())
        return halved_until(STREAM_BYTES // self.cut, 2 * room // (COPIES * threads))

    def free_bytes(self) -> int:
        """Of the machine, the control group or the process, whichever has least."""
        return memory.free_bytes()

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Python's error, also where a thread finds no room for its stack."""
        return isinstance(error, MemoryError) or "can't start new thread" in str(error)

    def release(self) -> None:
        """NumPy keeps nothing."""

    def with_smaller_blocks(self) -> NumpyBackend:
        """Blocks of a quarter, on a quarter of the threads, of whatever size X is."""
        return replace(self, cut=4 * self.cut)

    def uploader(self) -> PlainUploader:
        """Nothing to bring."""
        return PlainUploader(self.asarray)

    def load_kernels(self) -> None:
        """Import numba, or learn why it cannot be."""
        _kernels()

    def report(self) -> BackendReport:
        """Processor, memory, NumPy and its BLAS."""
        return BackendReport(
            name=self.name,
            usable=True,
            device=f"{_processor()}, {os.cpu_count()} cores",
            memory_bytes=_memory_bytes(),
            libraries={
                "numpy": np.__version__,
                "blas": _blas(),
                "threads": str(n_threads()),
                "numba": _numba(),
            },
            fallback=self.fallback,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened anew where it is unpickled: modules and devices do not travel."""
        return _reopened, (self.fallback, self.cut)

    def with_fallback(self, reason: str) -> NumpyBackend:
        """A copy that remembers why no GPU is used."""
        return replace(self, fallback=reason)


def _reopened(fallback: str, cut: int) -> NumpyBackend:
    return replace(open_backend(0), fallback=fallback, cut=cut)


def open_backend(index: int) -> NumpyBackend:
    """The CPU backend; there is one CPU."""
    if index:
        raise BackendUnavailable(f"numpy:{index}", "there is one CPU", "use 'numpy'")
    return NumpyBackend()


def owner(array: Any) -> int | None:  # noqa: ARG001
    """None: host arrays may go to any device."""
    return None


@cache
def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _memory_bytes() -> int | None:
    names = os.sysconf_names if hasattr(os, "sysconf") else {}
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@cache
def _blas() -> str:
    build = np.show_config(mode="dicts")
    blas = (build or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


@cache
def _kernels() -> tuple[Any, str]:
    """The module of the fused passes, or None and why."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return None, "NUMBA_DISABLE_JIT is set"
    with Interrupts() as interrupts:  # numba, half imported, could not be imported again
        try:
            from accel.backends.kernels import cpu
        except Exception as error:  # numba refuses a NumPy too new for it in several ways
            return None, first_line(error)
    if interrupts.seen:
        raise KeyboardInterrupt
    return cpu, ""


def _numba() -> str:
    """Its version without the half second of its import; where that failed, why."""
    tried = _kernels() if _kernels.cache_info().currsize else (True, "")
    if tried[0] is None:
        return f"cannot be imported ({tried[1]}), row blocks run instead of the fused pass"
    return _numba_version()


@cache
def _numba_version() -> str:
    try:
        return importlib.metadata.version("numba")
    except importlib.metadata.PackageNotFoundError:
        return "not installed, row blocks run instead of the fused pass"
