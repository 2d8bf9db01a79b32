"""The text of the kernels, specialised by macros, compiled once for a process and kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

NULL = np.uint64(0)  # a pointer to nothing, as an argument of a kernel
HERE = Path(__file__).parent
# dtype of X -> (X_BITS, STORED, bytes)
STORAGE = {
    "float64": ("double", "NUMBER", 8),
    "float32": ("float", "NUMBER", 4),
    "float16": ("unsigned short", "HALF", 2),
    "bfloat16": ("unsigned short", "BFLOAT", 2),
    "uint8": ("unsigned char", "BYTE", 1),
    "int8": ("signed char", "SIGNED_BYTE", 1),
}
REALS = {"float32": "float", "float64": "double"}
# name of a loss -> (LOSS, type of its targets, None for that of the arithmetic)
LOSSES = {
    "logistic": ("LOGISTIC", "signed char"),
    "softmax": ("SOFTMAX", "int"),
    "logistic quadratic": ("LOGISTIC_QUADRATIC", None),
    "softmax quadratic": ("SOFTMAX_QUADRATIC", None),
}
TARGETS = {"signed char": "int8", "int": "int32"}  # type in C -> dtype
SHARED_BYTES = 48 << 10  # that every kernel can have; more is given to one that asks
# CuPy adds -ftz=true to them, and the architecture.
OPTIONS = ("--std=c++17",)


def text_of(*names: str) -> str:
    """Source files of this folder, one after the other: NVRTC is given one text, no folders."""
    return "\n".join((HERE / name).read_text() for name in names)


def macros_of(stored: str | None, real: str, loss: str | None, n_outputs: int) -> dict[str, Any]:
    """Macros of numbers.cuh and losses.cuh.

    Parameters
    ----------
    stored : str or None
        Dtype of X, a key of `STORAGE`; None where a kernel sees no X.
    real : {"float32", "float64"}
        Dtype of the arithmetic.
    loss : str or None
        A key of `LOSSES`; None where a kernel sees none.
    n_outputs : int
        Columns of W.

    Returns
    -------
    dict
        Name of a macro -> its text.
    """
    bits, kind, _ = STORAGE[stored or real]
    name, target = LOSSES[loss or "logistic"]
    return {
        "X_BITS": bits, "STORED": kind, "REAL": REALS[real], "K": n_outputs,
        "LOSS": name, "TARGET": target or REALS[real],
    }  # fmt: skip


def target_dtype(loss: str, real: str) -> np.dtype[Any]:
    """Dtype in which a kernel reads the targets of a loss."""
    target = LOSSES[loss][1]
    return np.dtype(real if target is None else TARGETS[target])


def options_of(macros: Mapping[str, Any]) -> tuple[str, ...]:
    """Compiler options that define the macros."""
    return (*OPTIONS, *(f"-D{name}={value}" for name, value in macros.items()))


def function_of(
    cupy: Any,
    device: int,
    name: str,
    files: tuple[str, ...],
    macros: Mapping[str, Any],
    shared_bytes: int = 0,
) -> Any:
    """A kernel, compiled at its first use in a process; CuPy keeps it on disk as well.

    Parameters
    ----------
    cupy : module
        CuPy.
    device : int
        The current device: a module belongs to one.
    name : str
        Of the kernel.
    files : tuple of str
        Of this folder.
    macros : mapping
        Of those files.
    shared_bytes : int, default=0
        Shared memory that a launch will ask for.

    Returns
    -------
    cupy.RawKernel
        To be launched.
    """
    return _function(cupy, device, name, files, options_of(macros), shared_bytes)


@cache
def _function(
    cupy: Any,
    device: int,  # noqa: ARG001  the current one: a module belongs to one
    name: str,
    files: tuple[str, ...],
    options: tuple[str, ...],
    shared_bytes: int,
) -> Any:
    function = cupy.RawModule(code=text_of(*files), options=options).get_function(name)
    if shared_bytes > SHARED_BYTES:
        function.max_dynamic_shared_size_bytes = shared_bytes
    return function
