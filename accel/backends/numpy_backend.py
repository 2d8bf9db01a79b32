"""The CPU: NumPy arrays and the BLAS that NumPy is linked to."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends.base import BackendReport, BackendUnavailable, row_blocks
from accel.backends.interchange import to_host

# BLAS runs its own threads inside a block, and they stall on small ones: blocks are long.
BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class NumpyBackend:
    """NumPy on the CPU; see `accel.backends.Backend`."""

    name: str = "numpy"
    xp: Any = np
    device: Any = "cpu"
    fallback: str = ""

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        """The array in host memory."""
        return np.asarray(to_host(array), dtype=dtype)

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

    def map_blocks(self, function: Callable[[slice], Any], X: Any) -> list[Any]:
        """One block after the other."""
        row_bytes = X.shape[1] * X.dtype.itemsize
        return [function(rows) for rows in row_blocks(X.shape[0], row_bytes, BLOCK_BYTES)]

    def report(self) -> BackendReport:
        """Processor, memory, NumPy and its BLAS."""
        return BackendReport(
            name=self.name,
            usable=True,
            device=f"{_processor()}, {os.cpu_count()} cores",
            memory_bytes=_memory_bytes(),
            libraries={"numpy": np.__version__, "blas": _blas()},
            fallback=self.fallback,
        )

    def with_fallback(self, reason: str) -> NumpyBackend:
        """A copy that remembers why no GPU is used."""
        return replace(self, fallback=reason)


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


def _blas() -> str:
    build = np.show_config(mode="dicts")
    blas = (build or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
